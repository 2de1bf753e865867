"""A small synthetic world: its scenes, and the small networks that know it and nothing else."""
