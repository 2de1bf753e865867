"""HTML page of an evaluation; a browser opens it from disk, without a server and without scripts."""

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
from ovsr_gpu.drawing.page_images import JPEG_QUALITY, draw_mask
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.evaluation.counts import contingency_tables, json_list
from ovsr_gpu.evaluation.image_scores import ImageScores, best_and_worst, class_iou
from ovsr_gpu.evaluation.plot import class_plot
from ovsr_gpu.evaluation.report import CONVENTIONS, percent, summary_rows
from ovsr_gpu.evaluation.runner import Evaluation, withhold_classes
from ovsr_gpu.runtime.atomic import atomic_folder, atomic_write
from ovsr_gpu.segmenter import Segmenter
from ovsr_gpu.sources.decode import decode_image
from ovsr_gpu.store.record import Array
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary

PAGE_FILE, PLOT_FILE, FILES_FOLDER = "scores.html", "classes.svg", "scores_files"
STYLE_SHEETS = {"page.css": "ovsr_gpu.viewer", "scores.css": "ovsr_gpu.evaluation"}
"""Style sheets of the page, and the packages that contain them."""

IMAGES_PER_SECTION = 6
"""Number of the best images and of the worst images on the page."""
MAX_SIDE = 640
"""Larger images are reduced to this longest side, in pixels."""
MAX_CONFUSIONS = 3


@dataclass(frozen=True)
class _LabelledImage:
    """An image with its class maps, in which L is "something else" or a withheld class, and VOID is void.

    Attributes:
        pixels: `[H, W, 3]` uint8.
        target, prediction: `[H, W]` integers.
        counts: `[L+1, L]` int64, pixels by predicted and target class.
    """

    pixels: Array
    target: Array
    prediction: Array
    counts: Tensor


def write_page(
    evaluation: Evaluation, dataset: Dataset, segmenter: Segmenter, withheld: Sequence[str], out: Path
) -> Path:
    """Write `scores.html`, its images in `scores_files/`, and `classes.svg` with the IoU of each class.

    The page shows the main scores, the IoU of each class, and the best and the worst images with ground truth and
    prediction. These images are labelled again, one by one. Without `models.full_batches` the networks may differ in
    the last bits between batch sizes, so a borderline region may get another class than in the evaluation.

    Args:
        evaluation: The scores.
        dataset: The dataset that was evaluated.
        segmenter: The method that was evaluated.
        withheld: Names of the classes that were removed from the vocabulary.
        out: Folder for the files.

    Returns:
        The path of the page.

    Raises:
        OSError: A file cannot be written. Also everything that `evaluate` raises.
    """
    vocabulary, class_lookup = withhold_classes(dataset.vocabulary, withheld)
    colors = [f"#{bytes(color).hex()}" for color in class_colors(len(vocabulary))]
    plot = class_plot(vocabulary.names, evaluation.pixels.iou, colors[:-1], evaluation.pixels.miou)
    with atomic_write(out / PLOT_FILE) as file:
        file.write(plot.encode())
    examples = {example.source.name: example for example in dataset.examples}
    best, worst = best_and_worst(evaluation.by_image, IMAGES_PER_SECTION)
    articles = []
    with atomic_folder(out / FILES_FOLDER) as folder:
        for name, package in STYLE_SHEETS.items():
            (folder / name).write_bytes((files(package) / name).read_bytes())
        for index, scores in enumerate([*worst, *best]):
            image = _label_example(examples[scores.name], segmenter, vocabulary, class_lookup)
            _write_images(image, len(vocabulary), folder, index)
            articles.append(_article(scores, image, [*vocabulary.names, SOMETHING_ELSE], colors, index))
    of_expected = "" if dataset.expected_size in (None, evaluation.images) else f" of {dataset.expected_size:,}"
    withheld_note = (
        f"; withheld, void for most scores, shown as something else: {escape(', '.join(withheld))}" if withheld else ""
    )
    content = Template((files(__package__) / PAGE_FILE).read_text("utf-8")).substitute(
        title=escape(dataset.name),
        facts=f"{evaluation.images:,}{of_expected} images, {evaluation.regions:,} regions{withheld_note}",
        scores="\n".join(
            f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in summary_rows(evaluation)
        ),
        conventions=escape(CONVENTIONS),
        plot=plot,
        worst="\n".join(articles[: len(worst)]),
        best="\n".join(articles[len(worst) :]),
    )
    with atomic_write(out / PAGE_FILE) as file:
        file.write(content.encode("utf-8", "xmlcharrefreplace"))  # for names with lone surrogates (invalid UTF-8)
    return out / PAGE_FILE


def _label_example(
    example: Example, segmenter: Segmenter, vocabulary: Vocabulary, class_lookup: Tensor
) -> _LabelledImage:
    num_classes = len(vocabulary)
    with example.source.open() as file:
        pixels = decode_image(file)
    prediction = segmenter([pixels], vocabulary).class_map[0].cpu()
    target = class_lookup[torch.from_numpy(example.target()).long()].clamp(max=num_classes)
    known_target = torch.where(target < num_classes, target, VOID)
    counts = contingency_tables(prediction[None], known_target[None], num_classes + 1, num_classes)[0]
    return _LabelledImage(pixels.permute(1, 2, 0).numpy(), target.numpy(), prediction.numpy(), counts)


def _write_images(labelled: _LabelledImage, num_classes: int, folder: Path, index: int) -> None:
    image = Image.fromarray(labelled.pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    image.save(folder / f"{index}-image.jpg", quality=JPEG_QUALITY)
    for name, class_map in (("target", labelled.target), ("prediction", labelled.prediction)):
        mask = draw_mask(class_map, num_classes).resize(image.size, Image.Resampling.NEAREST)
        mask.save(folder / f"{index}-{name}.png", optimize=True)


def _article(
    scores: ImageScores, image: _LabelledImage, names: Sequence[str], colors: Sequence[str], index: int
) -> str:
    height, width = image.target.shape
    figures = "\n".join(
        f'<figure><img src="{FILES_FOLDER}/{index}-{file}" width="{width}" height="{height}" alt="">'
        f"<figcaption>{caption}</figcaption></figure>"
        for file, caption in (
            ("image.jpg", "image"),
            ("target.png", "ground truth"),
            ("prediction.png", "prediction"),
        )
    )
    facts = [
        f"<strong>mIoU {percent(scores.miou)}</strong>",
        f"pixel accuracy {percent(scores.pixel_accuracy)}",
        f"uncertainty {percent(scores.uncertainty)}",
        f"{scores.regions} region{'s' * (scores.regions != 1)}",
    ]
    confusions = ", ".join(_confusions(image.counts, names))
    return "\n".join(
        [
            f"<article><h3><bdi>{escape(scores.name)}</bdi></h3>",
            f"<p>{', '.join(facts)}</p><p>{confusions}</p>",
            f'<div class="views">{figures}</div>',
            f'<ul class="key">{"".join(_color_key(image, names, colors))}</ul></article>',
        ]
    )


def _confusions(counts: Tensor, names: Sequence[str]) -> Iterator[str]:
    """Yield the pairs of target and predicted class with the most wrong pixels, as fractions of the counted pixels."""
    errors = counts.clone()
    errors.fill_diagonal_(0)
    pairs = sorted(errors.nonzero().tolist(), key=lambda pair: (-int(errors[pair[0], pair[1]]), pair))
    for predicted, target in pairs[:MAX_CONFUSIONS]:
        fraction = percent(float(errors[predicted, target] / counts.sum()))
        yield f"<bdi>{escape(names[target])}</bdi> predicted as <bdi>{escape(names[predicted])}</bdi> {fraction}"


def _color_key(image: _LabelledImage, names: Sequence[str], colors: Sequence[str]) -> Iterator[str]:
    """Yield the color, name and IoU of each class in the image, the class with the most target pixels first."""
    num_target, num_predicted = (
        np.bincount(class_map[class_map != VOID], minlength=len(names)).tolist()
        for class_map in (image.target, image.prediction)
    )
    iou = [*json_list(class_iou(image.counts)), None]
    for index in sorted(range(len(names)), key=lambda index: (-num_target[index], -num_predicted[index])):
        if num_target[index] or num_predicted[index]:
            note = (
                "not in the ground truth"
                if not num_target[index]
                else ""
                if iou[index] is None
                else percent(iou[index])
            )
            swatch = f'<svg class="swatch"><rect width="100%" height="100%" fill="{colors[index]}"/></svg>'
            yield f"<li>{swatch}<bdi>{escape(names[index])}</bdi><span>{note}</span></li>"
    if (image.target == VOID).any():
        yield '<li><span class="swatch void"></span>void</li>'
