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
    u, v = (edges[None] + first_row[:, None, None]).flatten(0, 1).unbind(1)  # [images * edges]
    while len(u):
        key = forest.edge_keys(u, v)
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
        u, v = into[u], into[v]
        between = u != v
        u, v = u[between], v[between]

    if bool((made != pixels - 1).any()):
        raise ValueError("the edges must join all pixels into one connected graph")
    return children.view(images, pixels - 1, 2), costs.view(images, pixels - 1)


@dataclass
class _Forest:
    """Clusters of all images: centroid `[rows, R]` and size `[rows]`, `nodes` rows an image."""

    centroid: Tensor
    size: Tensor
    nodes: int

    def edge_keys(self, u: Tensor, v: Tensor) -> Tensor:
        """Key of each edge u-v."""
        low, high = torch.minimum(u, v) % self.nodes, torch.maximum(u, v) % self.nodes
        return _key(self.centroid[u], self.size[u], self.centroid[v], self.size[v], high << 16 | low)

    def union(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Centroid `[pairs, R]` and size `[pairs]` of each pair joined."""
        a, b = pairs.unbind(1)
        size = self.size[a] + self.size[b]
        return self.centroid[a] + (self.size[b] / size)[:, None] * (self.centroid[b] - self.centroid[a]), size

    def merge(self, pairs: Tensor, into: Tensor) -> None:
        self.centroid[into], self.size[into] = self.union(pairs)

    def mergeable(self, u: Tensor, v: Tensor, key: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """The pairs `[pairs, 2]` (smaller id first) that the greedy order merges next, and their keys, in its order.

        They are mutual nearest neighbours. For such a pair p let e(p) be the least key among the edges from its union
        to the neighbours and the edges of nodes that lose their nearest neighbour to it; for two touching pairs p, q
        let e(p, q) be the key of the edge between their unions. No other merge comes before the least of all max(p,
        e(p)) and max(p, q, e(p, q)) of the image, so every pair up to there is safe. An edge yet to be made comes
        after the existing edges of its cost.
        """
        rows = len(self.size)
        source, target, key2 = torch.cat([u, v]), torch.cat([v, u]), key.repeat(2)
        nearest = torch.full((rows,), _NEVER, device=u.device).scatter_reduce_(0, source, key2, "amin")
        mutual = (key == nearest[u]) & (key == nearest[v])
        pairs, pair_key = _unique_pairs(u[mutual], v[mutual], key[mutual], self.nodes)

        pair_of = torch.full((rows,), -1, device=u.device)
        pair_of[pairs] = torch.arange(len(pairs), device=u.device)[:, None]
        union_centroid, union_size = self.union(pairs)
        limit = torch.full((images,), _NEVER, device=u.device)

        p, q = pair_of[source], pair_of[target]
        out = (p >= 0) & (p != q)  # edges that leave a pair
        p, q, t = p[out], q[out], target[out]
        made = _key(union_centroid[p], union_size[p], self.centroid[t], self.size[t], _LAST)
        limit.scatter_reduce_(0, t // self.nodes, torch.maximum(pair_key[p], made), "amin")

        touch = q >= 0  # of these, edges between two pairs
        p, q, t = p[touch], q[touch], t[touch]
        made = _key(union_centroid[p], union_size[p], union_centroid[q], union_size[q], _LAST)
        made = torch.maximum(made, torch.maximum(pair_key[p], pair_key[q]))
        limit.scatter_reduce_(0, t // self.nodes, made, "amin")

        ids = nearest[source] & _LAST
        favourite = source // self.nodes * self.nodes * 2 + (ids >> 16) + (ids & 0xFFFF) - source
        lost_to = pair_of[favourite]
        exposed = (lost_to >= 0) & (pair_of[source] != lost_to) & (pair_of[target] != lost_to)
        bound = torch.maximum(pair_key[lost_to[exposed]], key2[exposed])
        limit.scatter_reduce_(0, source[exposed] // self.nodes, bound, "amin")

        safe = pair_key <= limit[pairs[:, 0] // self.nodes]
        return pairs[safe], pair_key[safe]


def _key(a: Tensor, size_a: Tensor, b: Tensor, size_b: Tensor, ids: Tensor | int) -> Tensor:
    """Ward's cost of joining two clusters, with the ids below it."""
    cost = size_a * size_b / (size_a + size_b) * (a - b).square().sum(-1)
    return cost.view(torch.int32).to(torch.int64) << 32 | ids


def _cost(key: Tensor) -> Tensor:
    return (key >> 32).to(torch.int32).view(torch.float32)


def _unique_pairs(u: Tensor, v: Tensor, key: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Edges as pairs with the smaller id first, parallel edges once, in the order of image and key."""
    order = torch.argsort(key)
    order = order[torch.argsort(u[order] // nodes, stable=True)]
    pairs, key = torch.stack([torch.minimum(u, v), torch.maximum(u, v)], dim=1)[order], key[order]
    fresh = torch.ones(len(key), dtype=torch.bool, device=key.device)
    fresh[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[fresh], key[fresh]
