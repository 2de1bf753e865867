"""Gallery of a labelling run as a folder of static files; a browser opens its page from disk, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

from ovsr_gpu.drawing.page_images import write_page_images
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.runtime.atomic import atomic_folder
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.store.record import Array
from ovsr_gpu.vocabulary import SOMETHING_ELSE

PAGE_FILE, DATA_FILE = "index.html", "data.js"
STATIC_FILES = {"page.html": PAGE_FILE, "page.css": "page.css", "grid.js": "grid.js", "page.js": "page.js"}
"""Files of this package that are copied, and their names in the gallery."""


Kind = Literal["gallery", "search"]


@dataclass(frozen=True)
class GalleryImage:
    """A labelled image or, in search results, a region with its image.

    Attributes:
        name: The name of the image.
        read_pixels: Returns the image, `[H, W, 3]` uint8.
        read_class_map: Returns the class indices, `[H, W]` integers: L for "something else",
            `page_images.TRANSPARENT` where the overlay is transparent.
        regions: Class index, score and area in pixels of each region; in search results the score is the similarity.
    """

    name: str
    read_pixels: Callable[[], Array]
    read_class_map: Callable[[], Array]
    regions: Sequence[tuple[int, float, int]]


@dataclass(frozen=True)
class GalleryFailure:
    """An image that could not be labelled or shown.

    Attributes:
        path: The path or name of the image.
        stage: The stage that failed, such as "decode".
        reason: The error message.
    """

    path: Path
    stage: str
    reason: str


def write_gallery(
    images: Iterable[GalleryImage],
    failures: Iterable[GalleryFailure],
    classes: Sequence[str],
    out: Path,
    title: str,
    progress: Callable[[int], None] | None = None,
    kind: Kind = "gallery",
) -> Path:
    """Write the folder `out/<kind>`, which replaces an earlier one.

    The new folder replaces the earlier one only when it is complete. Threads read the images, a few at a time,
    so memory does not grow with their number. An image that cannot be read (OSError or ValueError), or whose class map
    has another size, is listed with the failures.

    Args:
        images: The images to show. The page of a gallery sorts them, the least certain first; the page of search
            results keeps their order.
        failures: The images to list as failed.
        classes: Names of the L classes.
        out: The parent folder.
        title: Title of the page.
        progress: Called with the number of finished images.
        kind: "gallery" or "search".

    Returns:
        The path of the page.

    Raises:
        ValueError: `out/<kind>` exists and is not such a folder.
        OSError: A file cannot be written.
    """
    folder = out / kind
    if folder.exists() and not (folder / DATA_FILE).is_file():
        raise ValueError(f"{str(folder)!r} exists and is not a {kind} of this program; move it away")
    with atomic_folder(folder) as temporary:
        for source, name in STATIC_FILES.items():
            (temporary / name).write_bytes((files(__package__) / source).read_bytes())
        with (temporary / DATA_FILE).open("w", encoding="ascii") as file:
            outcomes = map_ahead(partial(_draw, num_classes=len(classes), folder=temporary), enumerate(images))
            _write_data(file, _report_progress(outcomes, progress), failures, classes, title, kind)
    return folder / PAGE_FILE


Outcome = dict[str, Any] | GalleryFailure


def _draw(numbered: tuple[int, GalleryImage], num_classes: int, folder: Path) -> Outcome:
    """Write the files of an image and return its entry for the page."""
    number, image = numbered
    try:
        pixels, class_map = image.read_pixels(), image.read_class_map()
        height, width = class_map.shape
        if pixels.shape != (height, width, 3):
            raise ValueError(f"the class map is {width}x{height}, the image {pixels.shape[1]}x{pixels.shape[0]}")
    except (OSError, ValueError) as error:
        return GalleryFailure(Path(image.name), "gallery", str(error))
    return {
        "number": number,
        "name": image.name,
        "width": width,
        "height": height,
        "has_view": write_page_images(folder, number, pixels, class_map, num_classes),
        "regions": [(int(index), round(float(score), 4), int(area)) for index, score, area in image.regions],
    }


def _report_progress(outcomes: Iterator[Outcome], progress: Callable[[int], None] | None) -> Iterator[Outcome]:
    for num_done, outcome in enumerate(outcomes, start=1):
        yield outcome
        if progress is not None:
            progress(num_done)


def _write_data(
    file: IO[str],
    outcomes: Iterable[Outcome],
    failures: Iterable[GalleryFailure],
    classes: Sequence[str],
    title: str,
    kind: Kind,
) -> None:
    """Write the data of the page, each image as soon as its files are written."""
    new_failures: dict[GalleryFailure, None] = {}  # without duplicates: search results may show an image several times

    def image_entries() -> Iterator[dict[str, Any]]:
        for outcome in outcomes:
            if isinstance(outcome, GalleryFailure):
                new_failures[outcome] = None
            else:
                yield outcome

    names = [*classes, SOMETHING_ELSE]
    colors = [f"#{bytes(color).hex()}" for color in class_colors(len(classes))]
    legend = ({"name": name, "color": color} for name, color in zip(names, colors, strict=True))
    file.write(f'const GALLERY = {{"kind": {_literal(kind)},\n"title": {_literal(title)}')
    _write_rows(file, "classes", legend)
    _write_rows(file, "images", image_entries())
    # The chain reads `new_failures` last, when all images are drawn.
    all_failures = chain(failures, new_failures)
    _write_rows(file, "failures", (asdict(failure) | {"path": str(failure.path)} for failure in all_failures))
    file.write("\n};\n")


def _write_rows(file: IO[str], key: str, rows: Iterable[dict[str, Any]]) -> None:
    file.write(f',\n"{key}": [')
    separator = "\n"
    for row in rows:
        file.write(separator + _literal(row))
        separator = ",\n"
    file.write("\n]")


def _literal(content: Any) -> str:
    """Return a JavaScript literal in ASCII without "<", so that it cannot end a script element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
