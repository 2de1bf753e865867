"""Cases, data, providers, bounds and results of `bench_clustering.py`."""
