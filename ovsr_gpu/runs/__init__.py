"""A labelling run on disk: the session that labels images, the worker of a device, and the statistics of a run."""
