"""Ward's clustering on a pixel graph, in scikit-learn's greedy order, all images at once.

Greedy order pops the cheapest edge of the graph, one merge at a time. Here each round accepts every merge that the
greedy order is bound to make next: the pairs of mutual nearest neighbours, in order of cost, up to the first cost at
which an edge that those merges create or expose could come between. Edges are ordered by (cost, larger id, smaller
id), which is the key of scikit-learn's heap, packed into one int64: 31 bits of a non-negative float32, 16 bits an id.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LAST = (1 << 32) - 1
_NEVER = torch.iinfo(torch.int64).max
MAX_PIXELS = 1 << 15


def grid_edges(height: int, width: int, connectivity: str, device: torch.device) -> Tensor:
    """The `[edges, 2]` int64 pixel pairs of a grid whose cells touch by a side ("4") or also by a corner ("8")."""
    cells = torch.arange(height * width, device=device).view(height, width)
    pairs = [(cells[:, :-1], cells[:, 1:]), (cells[:-1], cells[1:])]
    if connectivity == "8":
        pairs += [(cells[:-1, :-1], cells[1:, 1:]), (cells[:-1, 1:], cells[1:, :-1])]
    elif connectivity != "4":
        raise ValueError(f"connectivity must be '4' or '8'; got {connectivity!r}")
    return torch.cat([torch.stack([a.flatten(), b.flatten()], dim=1) for a, b in pairs])


def pixel_graph_ward(points: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Ward tree of each image when only clusters joined by an edge may merge.

    points: `[B, P, R]` float32, 1 <= P <= 32768. edges: `[edges, 2]` int64, a connected graph on the pixels, the same
        for every image.
    Returns children `[B, P-1, 2]` int64 (smaller id first, id P+m is the cluster of merge m) and costs `[B, P-1]`
    float32, the increase of the within-cluster sum of squares; costs can fall from one merge to the next, as in
    `sklearn.cluster.ward_tree`, whose distances are sqrt(2 * cost).

    Raises ValueError for other shapes or dtypes, and where the graph is not connected.
    """
    images, pixels, _ = points.shape
    if points.dtype != torch.float32:
        raise ValueError(f"points must be float32; got {points.dtype}")
    if not 1 <= pixels <= MAX_PIXELS:
        raise ValueError(f"the number of pixels must lie in [1, {MAX_PIXELS}]; got {pixels}")

    device = points.device
    nodes = 2 * pixels - 1  # ids of one image; image b owns the rows from b * nodes on
    centroid = points.new_zeros(images, nodes, points.shape[2])
    centroid[:, :pixels] = points
    forest = _Forest(centroid.flatten(0, 1), torch.ones(images * nodes, device=device), nodes)
    children = torch.zeros(images * (pixels - 1), 2, dtype=torch.int64, device=device)
    costs = torch.zeros(images * (pixels - 1), device=device)
    made = torch.zeros(images, dtype=torch.int64, device=device)  # merges so far

    first_row = nodes * torch.arange(images, device=device)
    ends = edges.sort(dim=1).values + first_row[:, None, None]  # [B, edges, 2]
    u, v, key = forest.edges(ends.flatten(0, 1))
    while len(u):
        pairs, pair_key = forest.mergeable(u, v, key, images)

        image = pairs[:, 0] // nodes
        now = torch.bincount(image, minlength=images)
        place = made[image] + torch.arange(len(pairs), device=device) - (now.cumsum(0) - now)[image]
        union = image * nodes + pixels + place
        row = image * (pixels - 1) + place
        children[row] = pairs - (image * nodes)[:, None]
        costs[row] = _cost(pair_key)
        forest.merge(pairs, union)
        made += now

        into = torch.arange(images * nodes, device=device)
        into[pairs] = union[:, None]
        moved = torch.stack([into.index_select(0, u), into.index_select(0, v)], dim=1)
        stays = (moved[:, 0] == u) & (moved[:, 1] == v)
        changed = forest.edges(moved[(~stays).nonzero()[:, 0]].sort(dim=1).values)
        kept = stays.nonzero()[:, 0]
        u, v, key = (torch.cat([old.index_select(0, kept), new]) for old, new in zip((u, v, key), changed, strict=True))

    if bool((made != pixels - 1).any()):
        raise ValueError("the edges must join all pixels into one connected graph")
    return children.view(images, pixels - 1, 2), costs.view(images, pixels - 1)


@dataclass
class _Forest:
    """Clusters of all images: centroid `[rows, R]` and size `[rows]`, `nodes` rows an image."""

    centroid: Tensor
    size: Tensor
    nodes: int

    def edges(self, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lower end, higher end and key of each edge, once, without those that lead from a node to itself.

        ends: `[edges, 2]` int64, the lower first.
        """
        rows = len(self.size)
        edge = torch.unique(ends[:, 0] * rows + ends[:, 1])
        edge = edge[(edge // rows != edge % rows).nonzero()[:, 0]]
        low, high = edge // rows, edge % rows
        key = _key(*self.clusters(low), *self.clusters(high), (high % self.nodes) << 16 | (low % self.nodes))
        return low, high, key

    def clusters(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.centroid.index_select(0, rows), self.size.index_select(0, rows)

    def union(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Centroid `[pairs, R]` and size `[pairs]` of each pair joined."""
        (centroid_a, size_a), (centroid_b, size_b) = self.clusters(pairs[:, 0]), self.clusters(pairs[:, 1])
        size = size_a + size_b
        return centroid_a + (size_b / size)[:, None] * (centroid_b - centroid_a), size

    def merge(self, pairs: Tensor, into: Tensor) -> None:
        self.centroid[into], self.size[into] = self.union(pairs)

    def mergeable(self, u: Tensor, v: Tensor, key: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """The pairs `[pairs, 2]` (smaller id first) that the greedy order merges next, and their keys, in its order.

        They are mutual nearest neighbours. For such a pair p let e(p) be the least key among the edges from its union
        to the neighbours and the edges of nodes that lose their nearest neighbour to it; for two touching pairs p, q
        let e(p, q) be the key of the edge between their unions. No other merge comes before the least of all
        max(p, e(p)) and max(p, q, e(p, q)) of the image, so every pair up to there is safe. An edge yet to be made
        comes after the existing edges of its cost.
        """
        rows = len(self.size)
        source, target, key2 = torch.cat([u, v]), torch.cat([v, u]), key.repeat(2)
        nearest = torch.full((rows,), _NEVER, device=u.device).scatter_reduce_(0, source, key2, "amin")
        nearest_of = nearest.index_select(0, source)
        pairs, pair_key = self._mutual(u, v, key, (nearest_of == key2).view(2, -1).all(0))

        pair_of = torch.full((rows,), -1, device=u.device)
        pair_of[pairs] = torch.arange(len(pairs), device=u.device)[:, None]
        union_centroid, union_size = self.union(pairs)
        limit = torch.full((images,), _NEVER, device=u.device)

        from_pair, to_pair = pair_of.index_select(0, source), pair_of.index_select(0, target)
        favourite = (
            (nearest_of >> 16 & 0xFFFF) + (nearest_of & 0xFFFF) + 2 * (source // self.nodes * self.nodes) - source
        )
        lost_to = pair_of.index_select(0, favourite)
        exposed = ((lost_to >= 0) & (from_pair != lost_to) & (to_pair != lost_to)).nonzero()[:, 0]
        bound = torch.maximum(pair_key[lost_to[exposed]], key2[exposed])
        limit.scatter_reduce_(0, source[exposed] // self.nodes, bound, "amin")

        # Pairs beyond the limit so far neither merge now nor lower it.
        near = torch.cat([pair_key <= limit[pairs[:, 0] // self.nodes], pair_key.new_zeros(1, dtype=torch.bool)])
        leaves = (near[from_pair] & (from_pair != to_pair)).nonzero()[:, 0]
        p, q, t = from_pair[leaves], to_pair[leaves], target[leaves]
        made = _key(union_centroid.index_select(0, p), union_size[p], *self.clusters(t), _LAST)
        limit.scatter_reduce_(0, t // self.nodes, torch.maximum(pair_key[p], made), "amin")

        touches = near[q].nonzero()[:, 0]  # of these edges, those that join two pairs
        p, q, t = p[touches], q[touches], t[touches]
        one, other = (union_centroid.index_select(0, of) for of in (p, q))
        made = torch.maximum(
            _key(one, union_size[p], other, union_size[q], _LAST), torch.maximum(pair_key[p], pair_key[q])
        )
        limit.scatter_reduce_(0, t // self.nodes, made, "amin")

        safe = (pair_key <= limit[pairs[:, 0] // self.nodes]).nonzero()[:, 0]
        return pairs[safe], pair_key[safe]

    def _mutual(self, u: Tensor, v: Tensor, key: Tensor, mutual: Tensor) -> tuple[Tensor, Tensor]:
        """The mutual edges as pairs, in the order of image and key."""
        where = mutual.nonzero()[:, 0]
        where = where[key[where].argsort()]
        where = where[(u[where] // self.nodes).argsort(stable=True)]
        return torch.stack([u[where], v[where]], dim=1), key[where]


def _key(a: Tensor, size_a: Tensor, b: Tensor, size_b: Tensor, ids: Tensor | int) -> Tensor:
    """Ward's cost of joining two clusters, with the ids below it."""
    cost = size_a * size_b / (size_a + size_b) * (a - b).square_().sum(-1)
    return cost.view(torch.int32).to(torch.int64) << 32 | ids


def _cost(key: Tensor) -> Tensor:
    return (key >> 32).to(torch.int32).view(torch.float32)
