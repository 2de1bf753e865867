"""Loading the two networks, and the disk cache of text embeddings."""
