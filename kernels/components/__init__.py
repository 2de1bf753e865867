"""Connected components of label grids and absorption of small ones, all images at once."""

from ovsr_gpu.kernels.components.components import absorb_small, connected_components

__all__ = ["absorb_small", "connected_components"]
