"""What a run has found, on disk."""
