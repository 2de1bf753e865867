import numpy as np
import pytest
import torch

from oracles import label_components
from ovsr_gpu import RegionConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.results import PendingRegions
from ovsr_gpu.stages.regions import UPSAMPLING_FACTOR, extract_regions
from ovsr_gpu.stages.upsampling import upsample_bilinear

CPU = torch.device("cpu")
KEEP_ALL = RegionConfig(min_area=0, boundaries="grid")


def batch_of(*sizes: tuple[int, int]) -> ImageBatch:
    return ImageBatch.of([np.zeros((*size, 3), np.uint8) for size in sizes], CPU)


def refine_by_loops(labels: np.ndarray) -> np.ndarray:
    rows, columns = labels.shape
    out = np.empty((UPSAMPLING_FACTOR * rows, UPSAMPLING_FACTOR * columns), int)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            v = min(max((y + 0.5) / UPSAMPLING_FACTOR - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) / UPSAMPLING_FACTOR - 0.5, 0), columns - 1)
            top, left = int(v), int(u)
            votes: dict[int, float] = {}
            for row, down in [(top, 1 - (v - top)), (min(top + 1, rows - 1), v - top)]:
                for column, along in [(left, 1 - (u - left)), (min(left + 1, columns - 1), u - left)]:
                    votes[labels[row, column]] = votes.get(labels[row, column], 0) + down * along
            out[y, x] = max(votes, key=lambda label: votes[label])
    return out


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 5), (7, 3)])
def test_refine_against_loops(shape):
    labels = torch.randint(0, 5, (3, *shape), generator=torch.Generator().manual_seed(0))
    assert np.array_equal(
        upsample_bilinear(labels, UPSAMPLING_FACTOR), np.stack([refine_by_loops(grid) for grid in labels.numpy()])
    )


@pytest.mark.parametrize("seed", range(5))
def test_maps_numbers_boxes_and_areas_against_loops(seed):
    sizes = [(9, 12), (120, 50), (33, 32), (1, 1), (3, 200)]
    images = batch_of(*sizes)
    labels = torch.randint(0, 3, (5, 8, 8), generator=torch.Generator().manual_seed(seed))
    region_map, table = extract_regions(labels, images, KEEP_ALL)
    regions = PendingRegions(table).read()[0]
    expected = []
    for b, (height, width) in enumerate(sizes):
        fine = refine_by_loops(label_components(labels[b].numpy()))
        rows = [int((y + 0.5) * 8 * UPSAMPLING_FACTOR / height) for y in range(height)]
        columns = [int((x + 0.5) * 8 * UPSAMPLING_FACTOR / width) for x in range(width)]
        components = fine[rows][:, columns]
        region_ids = region_map[b, :height, :width].numpy()
        for number in range(region_ids.max() + 1):
            y, x = np.nonzero(region_ids == number)
            assert len(set(components[region_ids == number])) == 1
            expected.append((b, [x.min(), y.min(), x.max() + 1, y.max() + 1], len(y)))
    assert regions.image_index.tolist() == [image for image, _, _ in expected]
    assert regions.boxes.tolist() == [box for _, box, _ in expected]
    assert regions.areas.tolist() == [area for _, _, area in expected]


def test_every_pixel_has_a_region_and_small_ones_are_gone():
    labels = torch.randint(0, 4, (2, 10, 10), generator=torch.Generator().manual_seed(2))
    region_map, table = extract_regions(
        labels, batch_of((100, 80), (64, 64)), RegionConfig(min_area=0.05, boundaries="grid")
    )
    regions = PendingRegions(table).read()[0]
    assert regions.areas[regions.image_index == 0].sum() == 8000
    assert regions.areas[regions.image_index == 1].sum() == 4096
    assert regions.areas.min() >= 0.02 * 4096  # 5 of 100 cells, some of whose boundary goes to heavier neighbors
    assert int(region_map[0, :100, :80].max()) + 1 == int((regions.image_index == 0).sum())


def test_clusters_in_two_places_become_two_regions():
    _, table = extract_regions(torch.tensor([[[0, 1, 0]] * 3]), batch_of((30, 30)), KEEP_ALL)
    regions = PendingRegions(table).read()[0]
    assert regions.areas.tolist() == [300, 300, 300]


def test_an_image_smaller_than_the_grid_keeps_only_what_it_shows():
    region_map, table = extract_regions(torch.arange(100).view(1, 10, 10), batch_of((1, 1)), KEEP_ALL)
    regions = PendingRegions(table).read()[0]
    assert region_map.tolist() == [[[0]]]
    assert (regions.boxes.tolist(), regions.areas.tolist()) == ([[0, 0, 1, 1]], [1])


def test_slots_without_a_region_are_empty():
    labels = torch.randint(0, 3, (3, 6, 6), generator=torch.Generator().manual_seed(3))
    _, table = extract_regions(labels, batch_of((30, 40), (8, 9), (50, 20)), KEEP_ALL)
    slots, total = table.regions, int(table.total)
    assert 0 < total < len(slots) == 3 * 36
    empty = slots.slice(total, len(slots))
    assert empty.image_index.unique().tolist() == [2] and not empty.areas.any()
    assert empty.boxes.unique(dim=0).tolist() == [[0, 0, 1, 1]]
    regions = PendingRegions(table).read()[0]
    assert torch.equal(slots.counts(3), regions.counts(3)) and torch.equal(slots.offsets(3), regions.offsets(3))
    assert int(regions.areas.min()) > 0 and int(regions.areas.sum()) == 30 * 40 + 8 * 9 + 50 * 20
