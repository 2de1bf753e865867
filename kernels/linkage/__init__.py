"""Batched agglomerative clustering: the merge tree of every image at once."""

from ovsr_gpu.kernels.linkage.full_graph import full_graph_linkage
from ovsr_gpu.kernels.linkage.pixel_graph import grid_edges, pixel_graph_ward

__all__ = ["full_graph_linkage", "grid_edges", "pixel_graph_ward"]
