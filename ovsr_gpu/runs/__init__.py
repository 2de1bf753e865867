"""A labelling run on disk: what it is, what it has found so far, and what it found in the end."""
