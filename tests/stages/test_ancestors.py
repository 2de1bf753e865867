"""Ancestor regions and merged regions against plain loops over trees, sets and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devices import DEVICE
from ovsr_gpu import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.trees import MergeTree, cut, joined_clusters
from ovsr_gpu.results import AncestorRegions, LabelledRegions, PendingRegions, Regions
from ovsr_gpu.stages.ancestors import append_ancestors, extract_with_ancestors, mean_over_ancestors
from ovsr_gpu.stages.merge_regions import merge_regions
from ovsr_gpu.stages.regions import extract_regions


def random_children(points: int, random: np.random.Generator) -> np.ndarray:
    """Children of a random tree, the smaller id first."""
    alive, children = list(range(points)), []
    for merge in range(points - 1):
        pair = sorted(alive.pop(int(random.integers(len(alive)))) for _ in range(2))
        children.append(pair)
        alive.append(points + merge)
    return np.array(children, dtype=np.int64).reshape(-1, 2)


def grid_children(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Children of a random tree of grid cells whose clusters are all connected."""
    node = np.arange(height * width).reshape(height, width)
    children = []
    for merge in range(height * width - 1):
        sides = [
            *zip(node[1:].flat, node[:-1].flat, strict=True),
            *zip(node[:, 1:].flat, node[:, :-1].flat, strict=True),
        ]
        touching = sorted({(int(min(pair)), int(max(pair))) for pair in sides if pair[0] != pair[1]})
        pair = touching[int(random.integers(len(touching)))]
        children.append(pair)
        node[np.isin(node, pair)] = height * width + merge
    return np.array(children, dtype=np.int64).reshape(-1, 2)


def members_of(children: np.ndarray) -> list[frozenset[int]]:
    """The points of every node."""
    members = [frozenset([point]) for point in range(len(children) + 1)]
    for first, second in children:
        members.append(members[first] | members[second])
    return members


def tensor(*arrays: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(DEVICE)


@pytest.mark.parametrize(("points", "max_clusters"), [(1, 1), (2, 2), (5, 5), (30, 7), (40, 32), (70, 63)])
def test_joined_clusters_against_sets(points: int, max_clusters: int) -> None:
    random = np.random.default_rng(points)
    trees = [random_children(points, random) for _ in range(4)]
    clusters = torch.tensor([1, max_clusters, max(1, max_clusters // 2), max(1, max_clusters - 1)], device=DEVICE)
    sides, keys = joined_clusters(tensor(*trees), clusters, max_clusters)
    labels = cut(tensor(*trees), clusters)
    assert sides.shape == (4, max_clusters - 1, max_clusters)
    for image, (children, count) in enumerate(zip(trees, clusters.tolist(), strict=True)):
        members = members_of(children)
        flat_labels = labels[image].tolist()
        flat = [{point for point in range(points) if flat_labels[point] == label} for label in range(max_clusters)]
        order = sorted(range(count), key=keys[image].tolist().__getitem__)
        for merge in range(points - max_clusters, points - 1):
            side = [0] * max_clusters
            if merge >= points - count:
                for number, child in enumerate(children[merge], 1):
                    for label in range(count):
                        if flat[label] <= members[child]:
                            side[label] = number
                positions = [order.index(label) for label in range(count) if side[label]]
                assert max(positions) - min(positions) == len(positions) - 1
            assert sides[image, merge - (points - max_clusters)].tolist() == side


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("min_area", [0, 0.1])
@pytest.mark.parametrize("connected", [True, False])
def test_ancestors_against_sets(connected: bool, min_area: float) -> None:
    random = np.random.default_rng(3)
    height, width, max_clusters = 5, 6, 6
    trees = [grid_children(height, width, random) if connected else random_children(30, random) for _ in range(3)]
    count = torch.tensor([6, 1, 4], device=DEVICE)
    children = tensor(*trees)
    tree = MergeTree(children, torch.zeros(3, 29, device=DEVICE), torch.zeros_like(children[..., 0]))
    labels = cut(children, count).view(3, height, width)
    sizes = [(40, 60), (35, 36), (5, 6)]
    images = ImageBatch.of([np.zeros((*size, 3), np.uint8) for size in sizes], DEVICE)
    config = RegionConfig(min_area=min_area, boundaries="grid")
    region_map, table, pending_ancestors = extract_with_ancestors(labels, tree, count, images, max_clusters, config)
    regions, ancestors = PendingRegions(table, pending_ancestors).read()
    plain_map, _ = extract_regions(labels, images, config)

    expected = []
    for image, ((rows, columns), pairs) in enumerate(zip(sizes, trees, strict=True)):
        region_ids, plain = (maps[image, :rows, :columns].cpu().numpy() for maps in (region_map, plain_map))
        regions_here = regions.counts(3)[image].item()
        assert np.unique(region_ids).tolist() == list(range(regions_here))
        assert len(np.unique(region_ids * 1000 + plain)) == regions_here  # the same regions in another order
        center = region_ids[
            (2 * np.arange(height)[:, None] + 1) * rows // (2 * height),
            (2 * np.arange(width) + 1) * columns // (2 * width),
        ]
        grid = labels[image].cpu().numpy()
        cluster = [np.bincount(grid[center == region]).argmax() for region in range(regions_here)]
        k = count[image].item()
        flat = [set(np.flatnonzero(grid.ravel() == label)) for label in range(k)]
        nodes = [*flat, *members_of(pairs)[60 - k : 59]]
        groups = {frozenset(r for r in range(regions_here) if flat[cluster[r]] <= node) for node in nodes}
        for group in groups:
            if len(group) > 1:
                mask = np.isin(region_ids, list(group))
                expected.append((image, box_of(mask), mask.sum(), [min(group), max(group) + 1]))
                assert max(group) - min(group) == len(group) - 1
    found = zip(*(column.tolist() for column in vars(ancestors).values()), strict=True)
    assert sorted(found) == sorted(expected) and len(expected) > 2


def test_images_smaller_than_the_grid_have_fewer_ancestors() -> None:
    random = np.random.default_rng(0)
    children = tensor(grid_children(5, 5, random), grid_children(5, 5, random))
    count = torch.tensor([8, 8], device=DEVICE)
    tree = MergeTree(children, torch.zeros(2, 24, device=DEVICE), torch.zeros_like(children[..., 0]))
    images = ImageBatch.of([np.zeros((1, 1, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)], DEVICE)
    labels = cut(children, count).view(2, 5, 5)
    _, table, pending_ancestors = extract_with_ancestors(
        labels, tree, count, images, 8, RegionConfig(min_area=0, boundaries="grid")
    )
    regions, ancestors = PendingRegions(table, pending_ancestors).read()
    counts = regions.counts(2).tolist()
    assert counts[0] == 1 and 1 < counts[1] <= 6
    assert ancestors.counts(2).tolist() == [0, counts[1] - 1]
    assert ancestors.areas.max() == 6 and ancestors.span[ancestors.areas.argmax()].tolist() == [0, counts[1]]


def region_table(areas: list[list[int]]) -> Regions:
    index = [image for image, image_areas in enumerate(areas) for _ in image_areas]
    flat = torch.tensor([area for image_areas in areas for area in image_areas])
    return Regions(torch.tensor(index), torch.tensor([[0, 0, 1, 1]] * len(index)), flat).map(
        lambda column: column.to(DEVICE)
    )


def test_means_over_ancestors_by_hand() -> None:
    regions = region_table([[4, 12], [9]])
    ancestor = AncestorRegions(*(torch.tensor(value, device=DEVICE) for value in ([0], [[0, 0, 4, 4]], [16], [[0, 2]])))
    nodes = append_ancestors(regions, ancestor, 2)
    assert nodes.span.tolist() == [[0, 1], [1, 2], [0, 1], [0, 2]]
    embeddings = torch.nn.functional.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    found = mean_over_ancestors(regions, nodes, embeddings.to(DEVICE), 2).cpu().double()
    first, second, alone, both = embeddings.double()
    for row, expected in zip(found, (first / 2 + both / 4, second / 12**0.5 + both / 4, alone), strict=True):
        torch.testing.assert_close(row, expected / expected.norm(), rtol=1e-6, atol=1e-7)


def labelled(areas: list[list[int]], classes: list[int], boxes: list[list[int]]) -> LabelledRegions:
    plain, generator = region_table(areas), torch.Generator().manual_seed(1)
    probabilities = torch.rand(len(plain), 4, generator=generator).softmax(1).to(DEVICE)
    embeddings = torch.nn.functional.normalize(torch.randn(len(plain), 3, generator=generator), dim=1).to(DEVICE)
    index = torch.tensor(classes, device=DEVICE)
    score = probabilities.gather(1, index[:, None])[:, 0]
    box = torch.tensor(boxes, device=DEVICE)
    return LabelledRegions(plain.image_index, box, plain.areas, index, score, probabilities, embeddings)


@pytest.mark.parametrize("seed", range(4))
def test_merged_regions_against_flooding(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = [(7, 9), (1, 1), (4, 12)]
    canvas = np.full((3, 7, 12), 99, np.int32)
    areas, boxes, classes = [], [], []
    for image, (height, width) in enumerate(sizes):
        region_ids = np.unique(random.integers(0, 6, (height, width)), return_inverse=True)[1].reshape(height, width)
        canvas[image, :height, :width] = region_ids
        areas.append(np.bincount(region_ids.ravel()).tolist())
        for region in range(region_ids.max() + 1):
            boxes.append(box_of(region_ids == region))
            classes.append(int(random.integers(0, 3)))
    regions = labelled(areas, classes, boxes)
    images = ImageBatch.of([np.zeros((*size, 3), np.uint8) for size in sizes], DEVICE)
    region_map, merged = merge_regions(regions, torch.from_numpy(canvas).to(DEVICE), images)

    start, total = 0, 0
    for image, (height, width) in enumerate(sizes):
        region_ids = canvas[image, :height, :width]
        groups = [{region} for region in range(len(areas[image]))]
        for y, x in np.ndindex(height, width):
            for a, b in ((y + 1, x), (y, x + 1)):
                if a < height and b < width and classes[start + region_ids[y, x]] == classes[start + region_ids[a, b]]:
                    first, second = (
                        next(group for group in groups if region_ids[at] in group) for at in ((y, x), (a, b))
                    )
                    if first is not second:
                        groups.remove(second)
                        first |= second
        for number, group in enumerate(sorted(groups, key=min)):
            row, parts = total + number, [start + region for region in sorted(group)]
            mask = np.isin(region_ids, list(group))
            assert np.array_equal(region_map[image, :height, :width].cpu().numpy() == number, mask)
            assert merged.image_index[row] == image and merged.areas[row] == mask.sum()
            assert merged.boxes[row].tolist() == box_of(mask)
            assert merged.class_index[row] == classes[parts[0]]
            weights = regions.areas[parts].double() / int(mask.sum())
            for name in ("score", "probabilities", "embeddings"):
                mean = (weights @ getattr(regions, name)[parts].double()).float()
                mean = mean / mean.norm() if name == "embeddings" else mean
                torch.testing.assert_close(getattr(merged, name)[row], mean, rtol=1e-5, atol=1e-6)
        start, total = start + len(areas[image]), total + len(groups)
    assert len(merged) == total < len(regions)
