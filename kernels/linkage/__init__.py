"""Batched agglomerative clustering: the merge tree of every image at once."""

from ovsr_gpu.kernels.linkage.full_graph import FULL_GRAPH_METHODS, distance_linkage, full_graph_linkage
from ovsr_gpu.kernels.linkage.pixel_graph import PIXEL_GRAPH_METHODS, edge_linkage, grid_edges, pixel_graph_linkage

__all__ = [
    "FULL_GRAPH_METHODS",
    "PIXEL_GRAPH_METHODS",
    "distance_linkage",
    "edge_linkage",
    "full_graph_linkage",
    "grid_edges",
    "pixel_graph_linkage",
]
