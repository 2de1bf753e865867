"""Labelling with more than one device: a process for each on one machine, or Ray Data on a cluster."""
