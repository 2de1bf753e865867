"""Cases, stages, timing and results of `bench_pipeline.py` and `bench_growth.py`."""
