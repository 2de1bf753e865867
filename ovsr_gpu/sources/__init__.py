"""Where images come from: finding files, decoding them, loading them in batches ahead of the model."""
