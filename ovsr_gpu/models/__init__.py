"""Load the two networks; cache text embeddings on disk."""
