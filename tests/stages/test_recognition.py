from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ovsr_gpu import RecognitionConfig
from ovsr_gpu.results import ClassTexts, Regions
from ovsr_gpu.stages.recognition import class_map, classify_regions

COUNTS = [3, 1, 5]


def unit(rows: int, seed: int, width: int = 24) -> torch.Tensor:
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def one_each(texts: torch.Tensor, classes: int | None = None) -> ClassTexts:
    """One text per class, and one for "something else" if there is one more text than `classes`."""
    return ClassTexts(texts, torch.arange(len(texts)), len(texts) - 1 if classes is None else classes)


def regions() -> Regions:
    index = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    return Regions(index, torch.zeros(9, 4).long(), torch.ones(9).long())


def probabilities_by_numpy(embeddings, texts, scale: float, rank: int | None, centered: bool) -> np.ndarray:
    """One image's probabilities in float64."""
    x, t = embeddings.double().numpy(), texts.double().numpy()
    if rank is not None:
        rows = np.concatenate([x, t])
        if centered:
            rows = rows - rows.mean(0)
        directions = np.linalg.svd(rows, full_matrices=False)[2][:rank]
        rows = rows @ directions.T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        x, t = rows[: len(x)], rows[len(x) :]
    logits = scale * x @ t.T
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


@pytest.mark.parametrize(("rank", "centered"), [(None, False), (2, False), (6, False), (6, True), (500, False)])
def test_against_numpy(rank, centered):
    embeddings, texts = unit(9, 0), unit(8, 1)
    config = RecognitionConfig(shared_rank=rank, shared_centered=centered)
    classified = classify_regions(regions(), embeddings, one_each(texts), 3, 20.0, config)
    first = 0
    for count in COUNTS:
        rows = slice(first, first + count)
        expected = probabilities_by_numpy(embeddings[rows], texts, 20.0, rank, centered)
        np.testing.assert_allclose(classified.probabilities[rows], expected, atol=2e-5)
        assert classified.class_index[rows].tolist() == expected.argmax(1).tolist()
        np.testing.assert_allclose(classified.score[rows], expected.max(1), atol=2e-5)
        first += count


def test_full_rank_changes_nothing():
    plain = classify_regions(regions(), unit(9, 0), one_each(unit(4, 1)), 3, 30.0, RecognitionConfig())
    projected = classify_regions(
        regions(), unit(9, 0), one_each(unit(4, 1)), 3, 30.0, RecognitionConfig(shared_rank=24)
    )
    torch.testing.assert_close(plain.probabilities, projected.probabilities, atol=1e-5, rtol=0)


def test_an_image_does_not_depend_on_its_batch():
    embeddings, texts = unit(9, 0), unit(8, 1)
    config = RecognitionConfig(shared_rank=5)
    together = classify_regions(regions(), embeddings, one_each(texts), 3, 20.0, config)
    alone = Regions(torch.zeros(5).long(), torch.zeros(5, 4).long(), torch.ones(5).long())
    classified = classify_regions(alone, embeddings[4:], one_each(texts), 1, 20.0, config)
    torch.testing.assert_close(classified.probabilities, together.probabilities[4:], atol=2e-6, rtol=0)


def test_regions_below_the_threshold_become_something_else():
    embeddings, texts = unit(9, 0), unit(8, 1)
    open_set = classify_regions(regions(), embeddings, one_each(texts), 3, 5.0, RecognitionConfig())
    threshold = float(open_set.score.median())
    closed = classify_regions(regions(), embeddings, one_each(texts), 3, 5.0, RecognitionConfig(threshold=threshold))
    for before, after, score, row in zip(
        open_set.class_index, closed.class_index, closed.score, open_set.probabilities, strict=True
    ):
        assert int(after) == (int(before) if float(row.max()) >= threshold else 7)
        assert float(score) == float(row[after])
    assert (closed.class_index == 7).sum() >= 4


@pytest.mark.parametrize("rank", [None, 5])
def test_without_a_prompt_every_region_gets_a_class(rank: int | None) -> None:
    embeddings, texts = unit(9, 0), unit(7, 1)
    config = RecognitionConfig(something_else=(), shared_rank=rank)
    classified = classify_regions(regions(), embeddings, one_each(texts, 7), 3, 20.0, config)
    expected = probabilities_by_numpy(embeddings[4:], texts, 20.0, rank, False)
    np.testing.assert_allclose(classified.probabilities[4:, :7], expected, atol=2e-5)
    assert classified.probabilities.shape == (9, 8) and (classified.probabilities[:, 7] == 0).all()
    assert classified.class_index[4:].tolist() == expected.argmax(1).tolist()
    unsure = classify_regions(regions(), embeddings, one_each(texts, 7), 3, 20.0, replace(config, threshold=1.0))
    assert (unsure.class_index == 7).all() and torch.equal(unsure.score, 1 - classified.score)


@pytest.mark.parametrize("rank", [None, 6])
@pytest.mark.parametrize(("threshold", "area"), [(None, None), (0.2, None), (0.2, 0.3), (None, 1.0)])
def test_the_maximum_over_synonyms_and_the_background_class(
    rank: int | None, threshold: float | None, area: float | None
):
    rows = ((0, 1, 2), (3,), (4, 5), (6,))
    embeddings, texts = unit(9, 2), unit(7, 3)
    some_regions = Regions(
        regions().image_index, torch.zeros(9, 4).long(), torch.tensor([30, 60, 10, 7, 30, 15, 15, 40, 0])
    )
    config = RecognitionConfig(
        something_else=(),
        synonyms="max",
        logit_scale=8.0,
        shared_rank=rank,
        first_class_is_background=True,
        threshold=threshold,
        area_threshold=area,
    )
    index = torch.tensor([number for number, row in enumerate(rows) for _ in row])
    classified = classify_regions(some_regions, embeddings, ClassTexts(texts, index, 4), 3, 99.0, config)
    first = 0
    for count in COUNTS:
        part = range(first, first + count)
        text_rows = probabilities_by_numpy(embeddings[first : first + count], texts, 8.0, rank, False)
        expected = np.array([[max(line[text] for text in row) for row in rows] for line in text_rows])
        if area is not None:
            covered = [0] * 4
            for region, line in zip(part, expected, strict=True):
                covered[line.argmax()] += int(some_regions.areas[region])
            for number in (1, 2, 3):
                if not covered[number] > area * sum(covered[1:]):
                    expected[:, number] = 0
        for region, line in zip(part, expected, strict=True):
            np.testing.assert_allclose(classified.probabilities[region], [*line, 0], atol=2e-5)
            best = 0 if threshold is not None and line.max() < threshold else int(line.argmax())
            assert int(classified.class_index[region]) == best
            assert float(classified.score[region]) == pytest.approx(line[best], abs=2e-5)
        first += count
    if area == 1:
        assert not classified.class_index.any()


def test_class_map_gives_each_pixel_the_class_of_its_region():
    classified = classify_regions(regions(), unit(9, 0), one_each(unit(8, 1)), 3, 20.0, RecognitionConfig())
    region_map = torch.stack([torch.randint(0, count, (4, 6)) for count in COUNTS]).int()
    found = class_map(region_map, classified.offsets(3), classified.class_index)
    first = [0, 3, 4]
    for b in range(3):
        expected = [
            [int(classified.class_index[first[b] + region]) for region in row] for row in region_map[b].tolist()
        ]
        assert found[b].tolist() == expected
    assert found.dtype == torch.int32
