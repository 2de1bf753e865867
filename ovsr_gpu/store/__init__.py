"""The results of a labelling run on disk: Parquet parts and the manifest `run.json`."""
