"""A page that shows a labelling run in a browser, opened from disk, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

from ovsr_gpu.drawing.page_images import write_images
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.runtime.atomic import replacing_folder
from ovsr_gpu.runtime.threads import map_ahead
from ovsr_gpu.store.record import Array
from ovsr_gpu.vocabulary import SOMETHING_ELSE

PAGE, DATA = "index.html", "data.js"
STATIC_FILES = {"page.html": PAGE, "page.css": "page.css", "grid.js": "grid.js", "page.js": "page.js"}
"""What comes along with this package, and its name in the gallery."""


Kind = Literal["gallery", "search"]


@dataclass(frozen=True)
class GalleryImage:
    """A labelled image; in a search a region that was found, with the image it is in.

    pixels: reads it, `[H, W, 3]` uint8. class_map: reads its class indices, `[H, W]` integers, L for "something else",
        `images.UNCOVERED` where nothing is to be laid over the image.
    regions: class index, score and area in pixels of each region; in a search the score is the similarity.
    """

    name: str
    pixels: Callable[[], Array]
    class_map: Callable[[], Array]
    regions: Sequence[tuple[int, float, int]]


@dataclass(frozen=True)
class GalleryFailure:
    """An image of which there is nothing to show; `stage` is where it failed."""

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
    """Write a folder called by its `kind` into `out`, in place of an earlier one, and return the page to open.

    The page of a gallery begins with the least certain images, that of a search keeps their order.
    A few images at a time are taken and read, by as many threads. One that cannot be read any more (OSError or
    ValueError), or whose class map has another size, is listed with the failures. `progress` is called with the number
    of images done. The folder appears once it is complete; until then an earlier one stays.

    Raises ValueError where something else is called so, OSError where it cannot be written.
    """
    folder = out / kind
    if folder.exists() and not (folder / DATA).is_file():
        raise ValueError(f"{str(folder)!r} is not a {kind} that could be replaced; move it out of the way")
    with replacing_folder(folder) as made:
        for source, name in STATIC_FILES.items():
            (made / name).write_bytes((files(__package__) / source).read_bytes())
        with (made / DATA).open("w", encoding="ascii") as data:
            drawn = map_ahead(partial(_draw, classes=len(classes), folder=made), enumerate(images))
            _write_data(data, _counted(drawn, progress), failures, classes, title, kind)
    return folder / PAGE


Outcome = dict[str, Any] | GalleryFailure


def _draw(numbered: tuple[int, GalleryImage], classes: int, folder: Path) -> Outcome:
    number, image = numbered
    try:
        pixels, class_map = image.pixels(), image.class_map()
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
        "large": write_images(folder, number, pixels, class_map, classes),
        "regions": [(int(index), round(float(score), 4), int(area)) for index, score, area in image.regions],
    }


def _counted(outcomes: Iterator[Outcome], progress: Callable[[int], None] | None) -> Iterator[Outcome]:
    for done, outcome in enumerate(outcomes, start=1):
        yield outcome
        if progress is not None:
            progress(done)


def _write_data(
    file: IO[str],
    outcomes: Iterable[Outcome],
    failures: Iterable[GalleryFailure],
    classes: Sequence[str],
    title: str,
    kind: Kind,
) -> None:
    """Write what the page is made from, each image as soon as it is drawn."""
    late_failures: dict[GalleryFailure, None] = {}  # each once: a search may show an image several times

    def drawn() -> Iterator[dict[str, Any]]:
        for outcome in outcomes:
            if isinstance(outcome, GalleryFailure):
                late_failures[outcome] = None
            else:
                yield outcome

    names = [*classes, SOMETHING_ELSE]
    colors = [f"#{bytes(color).hex()}" for color in class_colors(len(classes))]
    legend = ({"name": name, "color": color} for name, color in zip(names, colors, strict=True))
    file.write(f'const GALLERY = {{"kind": {_literal(kind)},\n"title": {_literal(title)}')
    _write_rows(file, "classes", legend)
    _write_rows(file, "images", drawn())
    _write_rows(file, "failures", (asdict(one) | {"path": str(one.path)} for one in chain(failures, late_failures)))
    file.write("\n};\n")


def _write_rows(file: IO[str], key: str, rows: Iterable[dict[str, Any]]) -> None:
    file.write(f',\n"{key}": [')
    separator = "\n"
    for row in rows:
        file.write(separator + _literal(row))
        separator = ",\n"
    file.write("\n]")


def _literal(content: Any) -> str:
    """A JavaScript literal in ASCII that cannot end a script element, wherever it may be put."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
