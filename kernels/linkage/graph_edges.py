"""The graph of the clusters of all images of a batch, its order, and what merging clusters does to it.

Nodes and edges of all images stand in flat lists: node i of image b is row `b * nodes + i`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LAST = torch.iinfo(torch.int64).max
_ID_BITS = 31


@dataclass
class Key:
    """Place in the greedy order: weight `[n]`, then ids `[n]` int64, the larger id of the edge above the smaller."""

    weight: Tensor
    ids: Tensor

    @staticmethod
    def yet_to_come(weight: Tensor) -> Key:
        """Of edges that do not exist yet: their ids will lie above those of all that do."""
        return Key(weight, torch.full_like(weight, _LAST, dtype=torch.int64))

    def __getitem__(self, index: Tensor) -> Key:
        return Key(self.weight.index_select(0, index), self.ids.index_select(0, index))

    def cat(self, other: Key) -> Key:
        return Key(torch.cat([self.weight, other.weight]), torch.cat([self.ids, other.ids]))

    def upto(self, other: Key) -> Tensor:
        return (self.weight < other.weight) | ((self.weight == other.weight) & (self.ids <= other.ids))

    def max(self, other: Key) -> Key:
        ids = torch.where(self.upto(other), other.ids, self.ids)
        return Key(torch.maximum(self.weight, other.weight), ids)

    def least(self, group: Tensor, groups: int) -> Key:
        """The least key of each group; group: `[n]` int64. A group without any gets (inf, last)."""
        weight = self.weight.new_full((groups,), torch.inf).scatter_reduce_(0, group, self.weight, "amin")
        ids = torch.where(self.weight == weight.index_select(0, group), self.ids, _LAST)
        return Key(weight, ids.new_full((groups,), _LAST).scatter_reduce_(0, group, ids, "amin"))


@dataclass
class Edges:
    """Each edge once: the rows of its ends, low and high `[edges]` int64, and its key."""

    low: Tensor
    high: Tensor
    key: Key

    @staticmethod
    def of(low: Tensor, high: Tensor, weight: Tensor, nodes: int) -> Edges:
        return Edges(low, high, Key(weight, (high % nodes) << _ID_BITS | (low % nodes)))

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: Tensor) -> Edges:
        return Edges(self.low.index_select(0, index), self.high.index_select(0, index), self.key[index])

    def cat(self, other: Edges) -> Edges:
        return Edges(torch.cat([self.low, other.low]), torch.cat([self.high, other.high]), self.key.cat(other.key))

    def both_ways(self) -> tuple[Tensor, Tensor, Key]:
        """Source row, target row and key, each edge once from either end."""
        return torch.cat([self.low, self.high]), torch.cat([self.high, self.low]), self.key.cat(self.key)

    def mutual(self, nearest: Key, nodes: int) -> Edges:
        """The edges that are the nearest of both their ends, in the order of image and key."""
        ids = self.key.ids
        both = (nearest.ids.index_select(0, self.low) == ids) & (nearest.ids.index_select(0, self.high) == ids)
        order = both.nonzero()[:, 0]
        for sort_by in (ids, self.key.weight, self.low // nodes):  # the last one counts first
            order = order[sort_by.index_select(0, order).argsort(stable=True)]
        return self[order]

    def number_of(self, rows: int) -> Tensor:
        """Number of the edge that each row is an end of, `[rows]` int64, -1 where of none; no row may be in two."""
        number = torch.full((rows,), -1, device=self.low.device)
        order = torch.arange(len(self), device=self.low.device)
        number[self.low] = order
        number[self.high] = order
        return number


def distinct(one: Tensor, other: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Low and high rows of the edges between `one` and `other`, each once, and of each given edge its place there."""
    edge, place = torch.unique(torch.minimum(one, other) * rows + torch.maximum(one, other), return_inverse=True)
    return edge // rows, edge % rows, place


def favourites(nearest: Key, nodes: int) -> Tensor:
    """Row `[rows]` of the node nearest to each node, from the key of its nearest edge; itself where it has none."""
    row = torch.arange(len(nearest.ids), device=nearest.ids.device)
    first = row // nodes * nodes
    ends = (nearest.ids >> _ID_BITS) + (nearest.ids & (1 << _ID_BITS) - 1)
    return torch.where(nearest.ids == _LAST, row, ends + 2 * first - row)
