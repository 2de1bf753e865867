"""Simple, slow, independent implementations of the package's algorithms, for comparison."""

from __future__ import annotations

import heapq

import numpy as np
from PIL import Image
from scipy import ndimage


def partition(labels) -> set[frozenset[int]]:
    """Return the groups of a labelling as a set of index sets, independent of the label values."""
    groups: dict[int, set[int]] = {}
    for index, label in enumerate(np.asarray(labels).ravel().tolist()):
        groups.setdefault(label, set()).add(index)
    return {frozenset(group) for group in groups.values()}


def cut_by_sets(children, clusters: int) -> list[int]:
    """Return the labels after the first P - k merges, numbered by first pixel."""
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


def union_distance(distances_a, distances_b, distance_ab, size_a, size_b, sizes, method: str) -> np.ndarray:
    """Return the distances of the union of clusters a and b to all others (Lance and Williams 1967)."""
    if method in ("single", "complete"):
        return np.minimum(distances_a, distances_b) if method == "single" else np.maximum(distances_a, distances_b)
    if method in ("average", "weighted"):
        weights = [size_a, size_b] if method == "average" else None
        return np.average([distances_a, distances_b], axis=0, weights=weights)
    squares = (size_a + sizes) * distances_a**2 + (size_b + sizes) * distances_b**2 - sizes * distance_ab**2
    return np.sqrt(np.maximum(squares, 0) / (size_a + size_b + sizes))


def ward_by_heap(points: np.ndarray, edges) -> tuple[list[tuple[int, int]], list[np.floating]]:
    """Run greedy Ward on a graph in the dtype of `points`, by a heap with the keys (cost, larger id, smaller id)."""
    one = points.dtype.type(1)
    total, size = list(points), [one] * len(points)
    neighbors: dict[int, set[int]] = {node: set() for node in range(len(points))}
    heap: list[tuple[np.floating, int, int]] = []

    def push(a: int, b: int) -> None:
        neighbors[a].add(b)
        neighbors[b].add(a)
        gap = total[a] / size[a] - total[b] / size[b]
        squares = points.dtype.type(0)
        for square in gap * gap:  # a sequential sum has a defined rounding
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
        adjacent = (neighbors.pop(a) | neighbors.pop(b)) - {a, b}
        neighbors[new] = set()
        for neighbor in adjacent:
            neighbors[neighbor] -= {a, b}
            push(new, neighbor)
    return children, costs


def absorb_one_by_one(components: np.ndarray, min_area: float) -> np.ndarray:
    """Merge the smallest component into the neighbor with the longest border until all have the minimum area."""
    labels = components.copy()
    while True:
        areas = {label: int((labels == label).sum()) for label in np.unique(labels)}
        small = [(area, label) for label, area in areas.items() if area < min_area]
        if not small or len(areas) == 1:
            return labels
        _, label = min(small)
        border: dict[int, int] = {}
        for a, b in [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]:
            for inside, outside in [(a, b), (b, a)]:
                for neighbor in outside[(inside == label) & (outside != label)].tolist():
                    border[neighbor] = border.get(neighbor, 0) + 1
        labels[labels == label] = min(border, key=lambda neighbor: (-border[neighbor], neighbor))


def number_by_first(labels: np.ndarray) -> np.ndarray:
    """Renumber labels as 0, 1, ... in the order of their first occurrence."""
    numbers: dict[int, int] = {}
    renumbered = [numbers.setdefault(label, len(numbers)) for label in labels.ravel().tolist()]
    return np.array(renumbered).reshape(labels.shape)


def label_components(labels: np.ndarray) -> np.ndarray:
    """Label connected components by scipy.ndimage, one label value at a time."""
    components = np.zeros(labels.shape, int)
    for value in np.unique(labels):
        of_value = ndimage.label(labels == value)[0]
        components[of_value > 0] = of_value[of_value > 0] + components.max()
    return number_by_first(components)


def pillow_resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Resize bicubically by Pillow, one axis at a time in the order of Pillow 13 (Pillow 12: always x first)."""
    shrink_x, shrink_y = image.width - width, image.height - height
    vertical_first = shrink_y > 0 and shrink_y > 2 * shrink_x
    first_size = (image.width, height) if vertical_first else (width, image.height)
    bicubic = Image.Resampling.BICUBIC
    return np.asarray(image.resize(first_size, bicubic).resize((width, height), bicubic), dtype=int)


def encode_masks(region_map: np.ndarray) -> list[str]:
    """Return the masks of a `[H, W]` region map as compressed run lengths, by pycocotools."""
    from pycocotools import mask  # not installed on every GPU node

    masks = region_map == np.arange(region_map.max() + 1)[:, None, None]
    return [mask.encode(np.asfortranarray(region, np.uint8))["counts"].decode() for region in masks]
