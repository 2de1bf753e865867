"""A batch of linkage matrices as trees, traversed without a loop over their nodes."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from ovsr_gpu.hierarchy.arrays import Array, as_tensor, convert_like
from ovsr_gpu.hierarchy.validation import check_linkage
from ovsr_gpu.kernels.trees import parents, roots


class Dendrogram:
    """The trees of linkage matrices `[..., P-1, 4]`, whose leading dimensions are flattened to one, B.

    Nodes are numbered as in Z: ids below P are leaves, and id P+m is the cluster of merge m. Leaves are sorted such
    that the leaves of every cluster are contiguous: from left to right as in Z, but a leaf follows the cluster that it
    is merged with. SciPy numbers flat clusters in this order.

    Args:
        Z: Linkage matrices. Dtypes other than float64 are converted to float64.

    Attributes:
        batch_shape: The leading dimensions of Z.
        num_points: P.
        children: `[B, P-1, 2]` int64.
        heights: `[B, P-1]` float64.
        sizes: `[B, P-1]` float64, the number of leaves of each merge.
        parent: `[B, 2P-1]` int64, the parent of each node; the root is its own parent.
        first: `[B, 2P-1]` int64, the position of the first leaf of each node in the leaf order.
        last: `[B, 2P-1]` int64, the position of the last leaf.
        adjacent_ancestor: `[B, P-1]` int64, the merge that is the lowest common ancestor of the leaves at positions j
            and j+1.

    Raises:
        TypeError, ValueError: Z is not a linkage matrix.
    """

    def __init__(self, Z: Array) -> None:
        linkage = check_linkage(as_tensor(Z, "float64"))
        self._source, self.batch_shape = Z, linkage.shape[:-2]
        linkage = linkage[None].flatten(0, -3)
        self.children = linkage[:, :, :2].to(torch.int64)
        self.heights, self.sizes = linkage[:, :, 2], linkage[:, :, 3]
        self.num_points = linkage.shape[1] + 1

        clusters_first = (self.children < self.num_points).to(torch.uint8).argsort(dim=2, stable=True)
        left, right = self.children.gather(2, clusters_first).unbind(2)
        leaves = torch.arange(self.num_points, device=left.device).expand(len(left), -1)
        first = roots(torch.cat([leaves, left], 1))
        last = roots(torch.cat([leaves, right], 1))
        end_of_left = last.gather(1, left)
        following = leaves.scatter(1, end_of_left, first.gather(1, right))
        position = self.num_points - 1 - steps_to_root(following)
        self.first, self.last = position.gather(1, first), position.gather(1, last)
        merges = torch.arange(self.num_points - 1, device=left.device).expand_as(left)
        self.adjacent_ancestor = torch.empty_like(left).scatter_(1, position.gather(1, end_of_left), merges)

    @cached_property
    def parent(self) -> Tensor:
        return parents(self.children, self.num_points)

    def subtree_max(self, values: Tensor) -> Tensor:
        """Return the maximum of the values `[B, P-1]` over each merge and all merges below it."""
        ancestor = self.parent[:, self.num_points :] - self.num_points
        for _ in range(self.num_points.bit_length()):
            values = values.scatter_reduce(1, ancestor, values, "amax")
            ancestor = ancestor.gather(1, ancestor)
        return values

    def ancestor_min(self, values: Tensor) -> Tensor:
        """Return the minimum of the values `[B, P-1]` over each merge and all merges above it."""
        ancestor = self.parent[:, self.num_points :] - self.num_points
        for _ in range(self.num_points.bit_length()):
            values = torch.minimum(values, values.gather(1, ancestor))
            ancestor = ancestor.gather(1, ancestor)
        return values

    def label_leaves(self, same_cluster: Tensor) -> Tensor:
        """Return labels `[B, ..., P]` int64 of the leaves: 0, 1, ... in the leaf order.

        Args:
            same_cluster: `[B, ..., P-1]` bool, whether the leaves at positions j and j+1 are in one flat cluster.

        Returns:
            The labels.
        """
        labels = pad((~same_cluster).cumsum(-1), (1, 0))
        leaf_positions = self.first[:, : self.num_points]
        leaf_positions = leaf_positions.view(len(labels), *[1] * (labels.ndim - 2), self.num_points)
        return labels.gather(-1, leaf_positions.expand_as(labels))

    def flatten_batch(self, name: str, array: Array, *shape: int) -> Tensor:
        """Return an array `[..., *shape]` that belongs to Z as `[B, *shape]` float64.

        Args:
            name: The name of the array in error messages.
            array: Numbers with the leading dimensions of Z.
            shape: The expected shape without the leading dimensions.

        Returns:
            The tensor on the device of the trees.

        Raises:
            ValueError: The array has another shape.
        """
        values = as_tensor(array, "float64", self.heights.device)
        expected = (*self.batch_shape, *shape)
        if values.shape != expected:
            raise ValueError(f"{name} must have shape {list(expected)} to match Z; got {list(values.shape)}")
        return values.reshape(len(self.heights), *shape)

    def unflatten_batch(self, result: Tensor) -> Array:
        """Return a result `[B, ...]` with the leading dimensions, the array type and the device of Z."""
        return convert_like(self._source, result.reshape((*self.batch_shape, *result.shape[1:])))


def steps_to_root(parent: Tensor) -> Tensor:
    """Return the number of steps from each node to its root.

    Args:
        parent: `[B, nodes]` int64, the parent pointers of a forest; a root is its own parent.

    Returns:
        `[B, nodes]` int64.
    """
    steps = (parent != torch.arange(parent.shape[1], device=parent.device)).to(torch.int64)
    for _ in range(parent.shape[1].bit_length()):
        steps = steps + steps.gather(1, parent)
        parent = parent.gather(1, parent)
    return steps
