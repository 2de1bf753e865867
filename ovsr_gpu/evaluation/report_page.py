"""A page that shows what an evaluation came to, opened from disk, without a server or scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.datasets import Dataset
from ovsr_gpu.datasets.dataset import Example
from ovsr_gpu.datasets.labels import VOID
from ovsr_gpu.drawing.page_images import QUALITY, draw_mask
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.evaluation.counts import joint_counts, listed
from ovsr_gpu.evaluation.image_scores import ImageScores, best_and_worst, class_iou
from ovsr_gpu.evaluation.plot import class_plot
from ovsr_gpu.evaluation.report import CONVENTIONS, headline, percent
from ovsr_gpu.evaluation.runner import Evaluation, without
from ovsr_gpu.runtime.atomic import replacing, replacing_folder
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.store.record import Array
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary

PAGE, PLOT, FILES = "scores.html", "classes.svg", "scores_files"
STYLES = {"page.css": "ovsr_gpu.viewer", "scores.css": "ovsr_gpu.evaluation"}
"""Style sheets of the page and the packages that they come with."""

SHOWN = 6
"""How many of the best and of the worst images are shown."""
LONGEST_SIDE = 640
"""Pixels: larger images are reduced."""
CONFUSIONS = 3


@dataclass(frozen=True)
class _Labelled:
    """An image `[H, W, 3]` uint8 with its maps `[H, W]`: L for "something else" and what is withheld, VOID for void.

    counts: `[L+1, L]` int64, pixels by found and true class.
    """

    pixels: Array
    truth: Array
    found: Array
    counts: Tensor


def write_page(found: Evaluation, dataset: Dataset, segmenter: Segmenter, withheld: Sequence[str], out: Path) -> Path:
    """Write `classes.svg`, the IoU of each class, and `scores.html` with its images in `scores_files/`; return it.

    The page has the main scores, the IoU of each class and the best and worst images beside their truth and their
    labels. These images are labelled again, one by one: without `models.full_batches` the networks may differ in the
    last bits from those of a larger batch, so that a region on the brink may fall otherwise than where it was scored.

    Raises as `evaluate` does, OSError where it cannot be written.
    """
    vocabulary, known = without(dataset.vocabulary, withheld)
    colors = [f"#{bytes(color).hex()}" for color in class_colors(len(vocabulary))]
    plot = class_plot(vocabulary.names, found.pixels.iou, colors[:-1], found.pixels.miou)
    with replacing(out / PLOT) as file:
        file.write(plot.encode())
    examples = {example.source.name: example for example in dataset.examples}
    best, worst = best_and_worst(found.by_image, SHOWN)
    articles = []
    with replacing_folder(out / FILES) as folder:
        for name, package in STYLES.items():
            (folder / name).write_bytes((files(package) / name).read_bytes())
        for number, image in enumerate([*worst, *best]):
            labelled = _label(examples[image.name], segmenter, vocabulary, known)
            _write_images(labelled, len(vocabulary), folder, number)
            articles.append(_article(image, labelled, [*vocabulary.names, SOMETHING_ELSE], colors, number))
    of_all = "" if dataset.full_size in (None, found.images) else f" of {dataset.full_size:,}"
    left_out = (
        f"; withheld, void for most scores, shown as something else: {escape(', '.join(withheld))}" if withheld else ""
    )
    content = Template((files(__package__) / PAGE).read_text("utf-8")).substitute(
        title=escape(dataset.name),
        facts=f"{found.images:,}{of_all} images, {found.regions:,} regions{left_out}",
        scores="\n".join(f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in headline(found)),
        conventions=escape(CONVENTIONS),
        plot=plot,
        worst="\n".join(articles[: len(worst)]),
        best="\n".join(articles[len(worst) :]),
    )
    with replacing(out / PAGE) as file:
        file.write(content.encode("utf-8", "xmlcharrefreplace"))  # as a badly encoded file name needs it
    return out / PAGE


def _label(example: Example, segmenter: Segmenter, vocabulary: Vocabulary, known: Tensor) -> _Labelled:
    with example.source.open() as file:
        pixels = decode_image(file)
    found = segmenter([pixels], vocabulary).class_map[0].cpu()
    truth = known[torch.from_numpy(example.truth()).long()].clamp(max=len(vocabulary))
    named = torch.where(truth < len(vocabulary), truth, VOID)
    counts = joint_counts(found[None], named[None], len(vocabulary) + 1, len(vocabulary))[0]
    return _Labelled(pixels.permute(1, 2, 0).numpy(), truth.numpy(), found.numpy(), counts)


def _write_images(labelled: _Labelled, classes: int, folder: Path, number: int) -> None:
    image = Image.fromarray(labelled.pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    image.save(folder / f"{number}-image.jpg", quality=QUALITY)
    for name, class_map in (("truth", labelled.truth), ("labels", labelled.found)):
        mask = draw_mask(class_map, classes).resize(image.size, Image.Resampling.NEAREST)
        mask.save(folder / f"{number}-{name}.png", optimize=True)


def _article(scores: ImageScores, labelled: _Labelled, names: Sequence[str], colors: Sequence[str], number: int) -> str:
    height, width = labelled.truth.shape
    figures = "\n".join(
        f'<figure><img src="{FILES}/{number}-{file}" width="{width}" height="{height}" alt="">'
        f"<figcaption>{caption}</figcaption></figure>"
        for file, caption in (("image.jpg", "image"), ("truth.png", "truth"), ("labels.png", "labels"))
    )
    facts = [
        f"<strong>mIoU {percent(scores.miou)}</strong>",
        f"pixel accuracy {percent(scores.pixel_accuracy)}",
        f"uncertainty {percent(scores.uncertainty)}",
        f"{scores.regions} region{'s' * (scores.regions != 1)}",
    ]
    confusions = ", ".join(_confusions(labelled.counts, names))
    return "\n".join(
        [
            f"<article><h3><bdi>{escape(scores.name)}</bdi></h3>",
            f"<p>{', '.join(facts)}</p><p>{confusions}</p>",
            f'<div class="views">{figures}</div>',
            f'<ul class="key">{"".join(_key(labelled, names, colors))}</ul></article>',
        ]
    )


def _confusions(counts: Tensor, names: Sequence[str]) -> Iterator[str]:
    """The pairs of a true and a found class that cost the most pixels, as fractions of those that count."""
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    pairs = sorted(wrong.nonzero().tolist(), key=lambda pair: (-int(wrong[pair[0], pair[1]]), pair))
    for taken, true in pairs[:CONFUSIONS]:
        fraction = percent(float(wrong[taken, true] / counts.sum()))
        yield f"<bdi>{escape(names[true])}</bdi> taken for <bdi>{escape(names[taken])}</bdi> {fraction}"


def _key(labelled: _Labelled, names: Sequence[str], colors: Sequence[str]) -> Iterator[str]:
    """What the colors of an image mean, the classes with the most true pixels first, and their IoU in it."""
    true, found = (
        np.bincount(one[one != VOID], minlength=len(names)).tolist() for one in (labelled.truth, labelled.found)
    )
    iou = [*listed(class_iou(labelled.counts)), None]
    for index in sorted(range(len(names)), key=lambda index: (-true[index], -found[index])):
        if true[index] or found[index]:
            told = "not in the truth" if not true[index] else "" if iou[index] is None else percent(iou[index])
            swatch = f'<svg class="swatch"><rect width="100%" height="100%" fill="{colors[index]}"/></svg>'
            yield f"<li>{swatch}<bdi>{escape(names[index])}</bdi><span>{told}</span></li>"
    if (labelled.truth == VOID).any():
        yield '<li><span class="swatch void"></span>void</li>'
