"""What `bench_clustering.py` measures and how it keeps its figures: cases, data, providers, bounds and results."""
