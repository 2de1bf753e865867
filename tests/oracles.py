"""Plain, slow, independent versions of what the package does, for comparison."""

from __future__ import annotations

import heapq

import numpy as np
from PIL import Image
from scipy import ndimage


def partition(labels) -> set[frozenset[int]]:
    """A labelling as the set of its groups, whatever the labels are called."""
    groups: dict[int, set[int]] = {}
    for place, label in enumerate(np.asarray(labels).ravel().tolist()):
        groups.setdefault(label, set()).add(place)
    return {frozenset(group) for group in groups.values()}


def cut_by_sets(children, clusters: int) -> list[int]:
    """Labels after the first P - k merges, numbered by first pixel."""
    pixels = len(children) + 1
    members = {pixel: [pixel] for pixel in range(pixels)}
    for merge in range(pixels - clusters):
        a, b = (int(child) for child in children[merge])
        members[pixels + merge] = members.pop(a) + members.pop(b)
    labels = [0] * pixels
    for number, group in enumerate(sorted(members.values(), key=min)):
        for pixel in group:
            labels[pixel] = number
    return labels


def union_distance(one, other, apart, size_one, size_other, sizes, method: str) -> np.ndarray:
    """Distances of the union of two clusters to all others, from their own distances `one` and `other` to them."""
    if method in ("single", "complete"):
        return np.minimum(one, other) if method == "single" else np.maximum(one, other)
    if method in ("average", "weighted"):
        return np.average([one, other], axis=0, weights=[size_one, size_other] if method == "average" else None)
    squares = (size_one + sizes) * one**2 + (size_other + sizes) * other**2 - sizes * apart**2
    return np.sqrt(np.maximum(squares, 0) / (size_one + size_other + sizes))


def ward_by_heap(points: np.ndarray, edges) -> tuple[list[tuple[int, int]], list[np.floating]]:
    """Greedy Ward on a graph, one merge at a time off a heap keyed (cost, larger id, smaller id), in their dtype."""
    one = points.dtype.type(1)
    total, size = list(points), [one] * len(points)
    neighbors: dict[int, set[int]] = {node: set() for node in range(len(points))}
    heap: list[tuple[np.floating, int, int]] = []

    def push(a: int, b: int) -> None:
        neighbors[a].add(b)
        neighbors[b].add(a)
        gap = total[a] / size[a] - total[b] / size[b]
        squares = points.dtype.type(0)
        for square in gap * gap:  # one after another, so that the rounding is defined
            squares += square
        heapq.heappush(heap, (squares * (size[a] * size[b] / (size[a] + size[b])), max(a, b), min(a, b)))

    for a, b in edges:
        push(int(a), int(b))
    children, costs = [], []
    while heap:
        cost, b, a = heapq.heappop(heap)
        if a not in neighbors or b not in neighbors:
            continue
        new = len(total)
        children.append((a, b))
        costs.append(cost)
        size.append(size[a] + size[b])
        total.append(total[a] + total[b])
        around = (neighbors.pop(a) | neighbors.pop(b)) - {a, b}
        neighbors[new] = set()
        for other in around:
            neighbors[other] -= {a, b}
            push(new, other)
    return children, costs


def absorb_one_by_one(components: np.ndarray, least: float) -> np.ndarray:
    """Give the smallest component to the neighbor with the longest border, again and again."""
    labels = components.copy()
    while True:
        areas = {label: int((labels == label).sum()) for label in np.unique(labels)}
        small = [(area, label) for label, area in areas.items() if area < least]
        if not small or len(areas) == 1:
            return labels
        _, label = min(small)
        border: dict[int, int] = {}
        for a, b in [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]:
            for one, other in [(a, b), (b, a)]:
                for neighbor in other[(one == label) & (other != label)].tolist():
                    border[neighbor] = border.get(neighbor, 0) + 1
        labels[labels == label] = min(border, key=lambda neighbor: (-border[neighbor], neighbor))


def number_by_first(labels: np.ndarray) -> np.ndarray:
    """Labels renamed 0, 1, ... in the order in which they first occur."""
    names: dict[int, int] = {}
    return np.array([names.setdefault(label, len(names)) for label in labels.ravel().tolist()]).reshape(labels.shape)


def label_pieces(labels: np.ndarray) -> np.ndarray:
    """Connected components by scipy.ndimage, one class at a time."""
    pieces = np.zeros(labels.shape, int)
    for value in np.unique(labels):
        found = ndimage.label(labels == value)[0]
        pieces[found > 0] = found[found > 0] + pieces.max()
    return number_by_first(pieces)


def pillow_resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Bicubic resize by Pillow, one axis at a time in the order in which Pillow 13 takes them (12: always x first)."""
    shrink_x, shrink_y = image.width - width, image.height - height
    vertical_first = shrink_y > 0 and shrink_y > 2 * shrink_x
    halfway = (image.width, height) if vertical_first else (width, image.height)
    bicubic = Image.Resampling.BICUBIC
    return np.asarray(image.resize(halfway, bicubic).resize((width, height), bicubic), dtype=int)


def encoded(region_map: np.ndarray) -> list[str]:
    """The masks of a `[H, W]` region map by pycocotools."""
    from pycocotools import mask  # a bare GPU node may lack it

    masks = region_map == np.arange(region_map.max() + 1)[:, None, None]
    return [mask.encode(np.asfortranarray(inside, np.uint8))["counts"].decode() for inside in masks]
