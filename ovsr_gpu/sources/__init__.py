"""Where images come from: listing and decoding them, and loading them in batches ahead of the model."""
