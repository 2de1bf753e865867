"""Labelling with several devices: one process per device on one machine, or Ray Data on a cluster."""
