"""A batch of linkage matrices as trees, walked without a loop over their nodes."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, like
from ovsr_gpu.hierarchy.validation import check_linkage
from ovsr_gpu.kernels.trees import roots


class Dendrogram:
    """The trees of linkage matrices `[..., P-1, 4]`, with their leading dimensions made one, B.

    Nodes are numbered as in Z: ids below P are leaves, id P+m is the cluster of merge m. Leaves are put in an order in
    which those of every cluster stand together: from left to right as Z has them, but a leaf after the cluster that it
    is merged with, which is how SciPy numbers flat clusters.

    batch: the leading dimensions. points: P. children: `[B, P-1, 2]` int64. heights and sizes: `[B, P-1]` float64.
    parent: `[B, 2P-1]` int64, of each node; the root is its own.
    first, last: `[B, 2P-1]` int64, places of the first and the last leaf of each node; for a leaf its own place.
    joining: `[B, P-1]` int64, the merge that joins the leaves at places j and j+1, their lowest common ancestor.
    """

    def __init__(self, Z: Array) -> None:
        """Raises TypeError or ValueError for what is no linkage matrix; other dtypes are converted to float64."""
        linkage = check_linkage(as_tensor(Z, "float64"))
        self._source, self.batch = Z, linkage.shape[:-2]
        linkage = linkage[None].flatten(0, -3)
        self.children = linkage[:, :, :2].to(torch.int64)
        self.heights, self.sizes = linkage[:, :, 2], linkage[:, :, 3]
        self.points = linkage.shape[1] + 1

        clusters_first = (self.children < self.points).to(torch.uint8).argsort(dim=2, stable=True)
        left, right = self.children.gather(2, clusters_first).unbind(2)
        leaves = torch.arange(self.points, device=left.device).expand(len(left), -1)
        first = roots(torch.cat([leaves, left], 1))
        last = roots(torch.cat([leaves, right], 1))
        end_of_left = last.gather(1, left)
        following = leaves.scatter(1, end_of_left, first.gather(1, right))
        place = self.points - 1 - steps_to_root(following)
        self.first, self.last = place.gather(1, first), place.gather(1, last)
        merges = torch.arange(self.points - 1, device=left.device).expand_as(left)
        self.joining = torch.empty_like(left).scatter_(1, place.gather(1, end_of_left), merges)

    @cached_property
    def parent(self) -> Tensor:
        nodes = torch.arange(2 * self.points - 1, device=self.children.device).repeat(len(self.children), 1)
        unions = nodes[:, self.points :].repeat_interleave(2, dim=1)
        return nodes.scatter(1, self.children.flatten(1), unions)

    def highest_below(self, values: Tensor) -> Tensor:
        """The greatest of the values `[B, P-1]` of each merge and of all merges below it."""
        ancestor = self.parent[:, self.points :] - self.points
        for _ in range(self.points.bit_length()):
            values = values.scatter_reduce(1, ancestor, values, "amax")
            ancestor = ancestor.gather(1, ancestor)
        return values

    def lowest_above(self, values: Tensor) -> Tensor:
        """The least of the values `[B, P-1]` of each merge and of all merges above it."""
        ancestor = self.parent[:, self.points :] - self.points
        for _ in range(self.points.bit_length()):
            values = torch.minimum(values, values.gather(1, ancestor))
            ancestor = ancestor.gather(1, ancestor)
        return values

    def label(self, joined: Tensor) -> Tensor:
        """Labels `[B, ..., P]` int64 of the leaves, 0, 1, ... along their order.

        joined: `[B, ..., P-1]` bool, whether the leaves at places j and j+1 are in one flat cluster.
        """
        labels = pad((~joined).cumsum(-1), (1, 0))
        places = self.first[:, : self.points].view(len(joined), *[1] * (joined.ndim - 2), self.points)
        return labels.gather(-1, places.expand_as(labels))

    def take(self, name: str, array: Array, *shape: int) -> Tensor:
        """What came with Z, an array of numbers `[..., *shape]`, as `[B, *shape]` float64.

        Raises ValueError for another shape; `name` is what its message calls the array.
        """
        values = as_tensor(array, "float64", self.heights.device)
        if values.shape != (*self.batch, *shape):
            raise ValueError(f"{name} must have shape {[*self.batch, *shape]} to go with Z; got {list(values.shape)}")
        return values.reshape(len(self.heights), *shape)

    def give(self, result: Tensor) -> Array:
        """A result `[B, ...]` in the dimensions, the kind of array and the place that Z came in."""
        return like(self._source, result.reshape((*self.batch, *result.shape[1:])))


def steps_to_root(parent: Tensor) -> Tensor:
    """Number of steps from every node of a forest of `[B, nodes]` parent pointers to its root, which is its own."""
    steps = (parent != torch.arange(parent.shape[1], device=parent.device)).to(torch.int64)
    for _ in range(parent.shape[1].bit_length()):
        steps = steps + steps.gather(1, parent)
        parent = parent.gather(1, parent)
    return steps
