"""What `bench_pipeline.py` and `bench_growth.py` measure and how they keep their figures."""
