"""Output formats: each module writes one format from the store of a run."""
