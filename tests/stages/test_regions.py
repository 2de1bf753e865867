import numpy as np
import pytest
import torch

from ovsr_gpu import RegionConfig
from ovsr_gpu.images import ImageBatch
from ovsr_gpu.stages.regions import enlarge, localise, number_regions

CPU = torch.device("cpu")


def batch_of(*sizes: tuple[int, int]) -> ImageBatch:
    return ImageBatch.of([np.zeros((*size, 3), np.uint8) for size in sizes], CPU)


def enlarge_by_loops(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = labels.shape
    out = np.empty((height, width), int)
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(v), int(u)
            votes: dict[int, float] = {}
            for row, down in [(top, 1 - (v - top)), (min(top + 1, rows - 1), v - top)]:
                for column, along in [(left, 1 - (u - left)), (min(left + 1, columns - 1), u - left)]:
                    votes[labels[row, column]] = votes.get(labels[row, column], 0) + down * along
            best = max(votes.values())
            out[y, x] = next(label for label, vote in votes.items() if vote > best - 1e-6)
    return out


def test_enlarge_against_loops():
    labels = torch.randint(0, 5, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    sizes = [(17, 23), (3, 2), (4, 5)]
    found = enlarge(labels, batch_of(*sizes))
    for b, (height, width) in enumerate(sizes):
        expected = enlarge_by_loops(labels[b].numpy(), height, width)
        # Exact halves can round either way between float32 and float64.
        assert (found[b, :height, :width].numpy() == expected).mean() > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_numbers_boxes_and_areas_against_loops(seed):
    generator = np.random.default_rng(seed)
    sizes = [(9, 12), (12, 5), (1, 1)]
    images = batch_of(*sizes)
    labels = generator.integers(0, 7, (3, 12, 12))
    region_map, regions = number_regions(torch.tensor(labels), images)
    expected = []
    for b, (height, width) in enumerate(sizes):
        own = labels[b, :height, :width]
        for number, label in enumerate(np.unique(own)):
            y, x = np.nonzero(own == label)
            assert (region_map[b, :height, :width].numpy() == number).tolist() == (own == label).tolist()
            expected.append((b, [x.min(), y.min(), x.max() + 1, y.max() + 1], len(y)))
    assert regions.image_index.tolist() == [image for image, _, _ in expected]
    assert regions.boxes.tolist() == [box for _, box, _ in expected]
    assert regions.areas.tolist() == [area for _, _, area in expected]


def test_every_pixel_has_a_region_and_small_ones_are_gone():
    labels = torch.randint(0, 4, (2, 10, 10), generator=torch.Generator().manual_seed(2))
    region_map, regions = localise(labels, batch_of((100, 80), (64, 64)), RegionConfig(min_area=0.05))
    assert regions.areas[regions.image_index == 0].sum() == 8000
    assert regions.areas[regions.image_index == 1].sum() == 4096
    assert regions.areas.min() >= 0.02 * 4096  # 5 of 100 cells, some pixels of which go to heavier neighbours
    assert int(region_map[0].max()) + 1 == int((regions.image_index == 0).sum())


def test_clusters_in_two_places_become_two_regions():
    labels = torch.tensor([[[0, 1, 0]] * 3])
    _, regions = localise(labels, batch_of((30, 30)), RegionConfig())
    assert len(regions) == 3


def test_a_picture_smaller_than_the_grid_keeps_only_what_it_shows():
    labels = torch.arange(100).view(1, 10, 10)
    region_map, regions = localise(labels, batch_of((1, 1)), RegionConfig(min_area=0))
    assert region_map.tolist() == [[[0]]]
    assert (regions.boxes.tolist(), regions.areas.tolist()) == ([[0, 0, 1, 1]], [1])
