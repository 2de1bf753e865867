"""Leading singular directions of many matrices at once."""

from ovsr_gpu.kernels.spectral.spectral import leading_directions, leading_svd

__all__ = ["leading_directions", "leading_svd"]
