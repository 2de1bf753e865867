"""Synthetic data: scenes with exact ground truth, and the training and scoring of the small embedded networks."""
