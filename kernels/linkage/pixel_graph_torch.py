"""Agglomerative clustering on a graph as batched torch operations: scikit-learn's greedy order, many merges a round.

The greedy order takes the least edge of all, one merge at a time; edges are ordered by (weight, larger id, smaller id),
the key of scikit-learn's heap. Here each round makes every merge that the greedy order is bound to make next: the pairs
of mutual nearest neighbours, in order, up to the first key at which an edge that those merges create or expose could
come between. README.md beside this says why that is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ovsr_gpu.kernels.linkage.graph_edges import Edges, Key, distinct, favourites
from ovsr_gpu.kernels.trees import MergeTree, by_height, first_merges, unmade


def ward_tree(points: Tensor, ends: Tensor, mask: Tensor, wanted: Tensor) -> MergeTree:
    """points: `[B, P, R]`. ends: `[E, 2]` int64. mask: `[B, P]` bool. wanted: `[B]` int64, merges."""
    graph = _WardGraph(points)
    low, high, _, _ = _flat_edges(ends, mask)
    weight = graph.distance(graph.state(low), graph.state(high))
    tree = _rounds(graph, Edges.of(low, high, weight, graph.nodes), wanted)
    return tree._replace(heights=(2 * tree.heights).sqrt())


def edge_tree(weights: Tensor, ends: Tensor, method: str, mask: Tensor, wanted: Tensor) -> MergeTree:
    """weights: `[B, E]`, of an edge given twice the smaller one counts. The rest as in `ward_tree`."""
    graph = _WeightGraph(weights, method, (mask.shape[0], mask.shape[1]))
    low, high, place, given = _flat_edges(ends, mask)
    weight = weights.flatten().index_select(0, given)
    weight = torch.full_like(low, torch.inf, dtype=weights.dtype).scatter_reduce_(0, place, weight, "amin")
    return _rounds(graph, Edges.of(low, high, weight, graph.nodes), wanted)


def _flat_edges(ends: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Low and high rows of the distinct edges whose ends take part; of each such edge given, its place there and in
    `[B * E]`."""
    images, points = mask.shape
    takes_part = mask[:, ends].all(2) & (ends[:, 0] != ends[:, 1])  # [B, E]
    given = takes_part.flatten().nonzero()[:, 0]
    nodes = 2 * points - 1
    rows = (ends + nodes * torch.arange(images, device=ends.device)[:, None, None]).flatten(0, 1).index_select(0, given)
    low, high, place = distinct(rows[:, 0], rows[:, 1], images * nodes)
    return low, high, place, given


def _rounds(graph: _WardGraph | _WeightGraph, edges: Edges, wanted: Tensor) -> MergeTree:
    """The first `wanted` `[B]` int64 merges of each image."""
    images, nodes = len(wanted), graph.nodes
    points = (nodes + 1) // 2
    tree = unmade(images, points - 1, graph.size)
    children, heights, sizes = (part.flatten(0, 1) for part in tree)
    made = torch.zeros_like(wanted)
    edges = edges[edges.key.weight.isfinite().nonzero()[:, 0]]

    while len(edges):
        source, _, key = edges.both_ways()
        nearest = key.least(source, images * nodes)
        pairs = edges.mutual(nearest, nodes)
        if graph.in_order:
            pairs = pairs[pairs.key.upto(graph.limit(edges, nearest, pairs)[pairs.low // nodes]).nonzero()[:, 0]]
            left = wanted - made
        else:
            # Unions only come to lie farther away, so a merge not above the least edge left is one of the lowest.
            least = edges.key.least(edges.low // nodes, images).weight[:, None]
            left = torch.where((heights.view(images, -1) <= least).sum(1) < wanted, points, 0)
        image = pairs.low // nodes
        now = torch.bincount(image, minlength=images)
        number = torch.arange(len(pairs), device=made.device) - (now.cumsum(0) - now)[image]
        allowed = (number < left[image]).nonzero()[:, 0]
        if not len(allowed):
            break

        pairs, image = pairs[allowed], image[allowed]
        place = made[image] + number[allowed]
        merge = image * (points - 1) + place
        union = image * nodes + points + place
        children[merge] = torch.stack([pairs.low % nodes, pairs.high % nodes], dim=1)
        heights[merge] = pairs.key.weight
        made += torch.bincount(image, minlength=images)
        edges = graph.contract(edges, pairs, union)
        sizes[merge] = graph.size[union].to(torch.int64)

    return tree if graph.in_order else first_merges(by_height(tree), wanted)


State = tuple[Tensor, Tensor]
"""Means `[n, R]` and sizes `[n]` of clusters."""


class _WardGraph:
    """Clusters whose edges weigh what joining them adds to the within-cluster sum of squares."""

    in_order = True

    def __init__(self, points: Tensor) -> None:
        images, count, rank = points.shape
        self.nodes = 2 * count - 1
        self.total = points.new_zeros(images, self.nodes, rank)
        self.total[:, :count] = points
        self.total = self.total.flatten(0, 1)
        self.mean = self.total.clone()
        self.size = points.new_ones(images * self.nodes)

    def state(self, rows: Tensor) -> State:
        return self.mean.index_select(0, rows), self.size.index_select(0, rows)

    def union(self, pairs: Edges) -> tuple[Tensor, State]:
        """Sums `[pairs, R]`, and the state, of each pair joined."""
        total = self.total.index_select(0, pairs.low) + self.total.index_select(0, pairs.high)
        size = self.size.index_select(0, pairs.low) + self.size.index_select(0, pairs.high)
        return total, (total / size[:, None], size)

    @staticmethod
    def distance(a: State, b: State) -> Tensor:
        """Ward's cost, its terms added one after another so that every implementation rounds alike."""
        (mean_a, size_a), (mean_b, size_b) = a, b
        terms = (mean_a - mean_b).square_().unbind(1)
        return sum(terms[1:], start=terms[0]) * (size_a * size_b / (size_a + size_b))

    def limit(self, edges: Edges, nearest: Key, pairs: Edges) -> Key:
        """For each image the key after which a merge that is no pair of this round could come.

        For a pair p let e(p) be the least key among the edges from its union to the neighbours and the edges of nodes
        that lose their nearest neighbour to it; for two touching pairs p, q let e(p, q) be the key of the edge between
        their unions. The limit is the least of all max(p, e(p)) and max(p, q, e(p, q)).
        """
        images = len(self.size) // self.nodes
        source, target, key = edges.both_ways()
        pair_of = pairs.number_of(len(self.size))
        from_pair, to_pair = pair_of.index_select(0, source), pair_of.index_select(0, target)

        lost_to = pair_of.index_select(0, favourites(nearest, self.nodes).index_select(0, source))
        exposed = ((lost_to >= 0) & (from_pair != lost_to) & (to_pair != lost_to)).nonzero()[:, 0]
        bound = pairs.key[lost_to[exposed]].max(key[exposed])
        exposed_image = source[exposed] // self.nodes

        # Pairs beyond the least of these neither merge now nor lower the limit.
        least = bound.least(exposed_image, images).weight
        near = torch.cat([pairs.key.weight <= least[pairs.low // self.nodes], source.new_zeros(1, dtype=torch.bool)])
        leaves = (near[from_pair] & (from_pair != to_pair)).nonzero()[:, 0]
        p, q, x = from_pair[leaves], to_pair[leaves], target[leaves]
        _, (mean, size) = self.union(pairs)
        to_neighbour = self.distance((mean[p], size[p]), self.state(x))
        bound = bound.cat(pairs.key[p].max(Key.yet_to_come(to_neighbour)))
        touches = near[q].nonzero()[:, 0]
        p, q = p[touches], q[touches]
        to_union = self.distance((mean[p], size[p]), (mean[q], size[q]))
        bound = bound.cat(pairs.key[p].max(pairs.key[q]).max(Key.yet_to_come(to_union)))
        return bound.least(torch.cat([exposed_image, x // self.nodes, x[touches] // self.nodes]), images)

    def contract(self, edges: Edges, pairs: Edges, union: Tensor) -> Edges:
        """The edges once each pair is its union, whose row is given."""
        self.total[union], (self.mean[union], self.size[union]) = self.union(pairs)
        into = torch.arange(len(self.size), device=union.device)
        into[pairs.low] = union
        into[pairs.high] = union
        low, high = into.index_select(0, edges.low), into.index_select(0, edges.high)
        stays = (low == edges.low) & (high == edges.high)
        moved = (~stays & (low != high)).nonzero()[:, 0]
        low, high, _ = distinct(low[moved], high[moved], len(self.size))
        weight = self.distance(self.state(low), self.state(high))
        return edges[stays.nonzero()[:, 0]].cat(Edges.of(low, high, weight, self.nodes))


class _WeightGraph:
    """Clusters whose edges weigh what `method` makes of the weights of the edges between their points.

    A cluster that touches only one half of a pair keeps that edge's weight, as in scikit-learn.
    """

    def __init__(self, weights: Tensor, method: str, shape: tuple[int, int]) -> None:
        images, count = shape
        self.method = method
        self.in_order = method == "average"  # where only one half is touched, it depends on the order of the merges
        self.nodes = 2 * count - 1
        self.size = weights.new_ones(images * self.nodes)

    def limit(self, edges: Edges, nearest: Key, pairs: Edges) -> Key:
        """For each image the least key of the edges that leave a pair of this round: no edge of a union is lighter."""
        paired = pairs.number_of(len(self.size)) >= 0
        mutual = nearest.ids.index_select(0, edges.low) == nearest.ids.index_select(0, edges.high)
        leaves = ~mutual & (paired.index_select(0, edges.low) | paired.index_select(0, edges.high))
        leaving = edges[leaves.nonzero()[:, 0]]
        return leaving.key.least(leaving.low // self.nodes, len(self.size) // self.nodes)

    def contract(self, edges: Edges, pairs: Edges, union: Tensor) -> Edges:
        """The edges once each pair is its union, whose row is given; of two pairs that touch the earlier goes first."""
        self.size[union] = self.size[pairs.low] + self.size[pairs.high]
        pair_of = pairs.number_of(len(self.size))
        of_low, of_high = pair_of.index_select(0, edges.low), pair_of.index_select(0, edges.high)
        kept = edges[((of_low < 0) & (of_high < 0)).nonzero()[:, 0]]

        moved = (of_low != of_high).nonzero()[:, 0]
        edges, of_low, of_high = edges[moved], of_low[moved], of_high[moved]
        low_first = (of_low >= 0) & ((of_high < 0) | (of_low < of_high))
        half = torch.where(low_first, edges.low, edges.high)
        other = torch.where(low_first, edges.high, edges.low)
        into = union[torch.where(low_first, of_low, of_high)]
        other, into, weight = self._join(into, other, edges.key.weight, half)

        # The higher row is now the union; the other may be a half as well.
        of_other = pair_of.index_select(0, other)
        once, twice = (of_other < 0).nonzero()[:, 0], (of_other >= 0).nonzero()[:, 0]
        kept = kept.cat(Edges.of(other[once], into[once], weight[once], self.nodes))
        low, high, weight = self._join(union[of_other[twice]], into[twice], weight[twice], other[twice])
        return kept.cat(Edges.of(low, high, weight, self.nodes))

    def _join(self, union: Tensor, other: Tensor, weight: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Low and high rows and weights of the edges from the unions of `half`, each once."""
        low, high, place = distinct(union, other, len(self.size))
        if self.method != "average":
            reduce = "amin" if self.method == "single" else "amax"
            joined = torch.zeros_like(low, dtype=weight.dtype)
            return low, high, joined.scatter_reduce_(0, place, weight, reduce, include_self=False)
        size = self.size.index_select(0, half)
        nothing = torch.zeros_like(low, dtype=weight.dtype)
        mean = nothing.index_add(0, place, size * weight) / nothing.index_add(0, place, size)
        alone = nothing.index_add(0, place, torch.ones_like(weight)) == 1
        return low, high, torch.where(alone, nothing.index_add(0, place, weight), mean)
