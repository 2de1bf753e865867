from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.drawing import fonts
from ovsr_gpu.drawing.overlay import draw_overlay
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.export.image_files import OverlayWriter
from ovsr_gpu.sources.files import ImageSource
from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.vocabulary import Vocabulary

Record = Callable[..., LabelledImage]


def flat_record(height: int, width: int, class_map: np.ndarray) -> LabelledImage:
    """A white image, one region a class."""
    nothing = np.zeros(0)
    pixels = np.full((height, width, 3), 255, np.uint8)
    return LabelledImage(ImageSource(Path("a"), "a"), pixels, class_map, class_map, *[nothing] * 6, [])


def halves(height: int, width: int) -> LabelledImage:
    class_map = np.zeros((height, width), np.int32)
    class_map[:, width // 2 :] = 1
    return flat_record(height, width, class_map)


def colors_in(image: Image.Image) -> set[tuple[int, ...]]:
    return {color for _, color in image.getcolors(1 << 24)}


def draw(record: LabelledImage, names: Sequence[str]) -> Image.Image:
    return draw_overlay(
        record.pixels, record.class_map, record.region_map, [*names, "something else"], class_colors(len(names))
    )


def test_the_legend_stands_below_and_shows_the_classes_that_occur() -> None:
    overlay = draw(halves(300, 400), ["dog", "sky", "absent"])
    assert overlay.width == 400 and 320 < overlay.height < 400
    colors = [tuple(color) for color in class_colors(3).tolist()]
    legend = colors_in(overlay.crop((0, 300, 400, overlay.height)))
    assert {colors[0], colors[1]} <= legend and not {colors[2], colors[3]} & legend
    above = colors_in(overlay.crop((0, 0, 400, 300)))
    assert len(above) == 3 and (255, 255, 255) in above  # two blended classes and their border


def test_the_legend_stands_beside_a_tall_image() -> None:
    image = draw(halves(600, 300), ["dog", "sky"])
    assert image.height == 600 and 360 < image.width < 600


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (1, 1, (256, 256)),
        (3, 10000, (16, 1600)),
        (10000, 3, (1600, 16)),
        (40, 60, (160, 240)),
        (3000, 4000, (1200, 1600)),
    ],
)
def test_tiny_extreme_and_large_images(height: int, width: int, size: tuple[int, int]) -> None:
    overlay = draw(halves(height, width), ["dog", "sky"])
    assert size[0] <= overlay.height <= size[0] + 100
    assert size[1] <= overlay.width <= size[1] + 300
    paper = overlay.getpixel((overlay.width - 1, overlay.height - 1))
    assert paper == (255, 255, 255)
    assert overlay.getpixel((size[1] - 1, size[0] - 1)) != paper


def test_many_and_long_names_stay_inside_a_legend_of_reasonable_size() -> None:
    class_map = np.repeat(np.arange(60, dtype=np.int32), 50).reshape(60, 50).repeat(5, 0).repeat(6, 1)
    names = [f"{'long ' * 30}{number}" for number in range(60)]
    image = draw(flat_record(300, 300, class_map), names)
    assert image.width < 1200 and image.height < 1200


@pytest.mark.parametrize(
    "name", ["犬と猫", "кошка", "Straßenbahn", "कुत्ता", "كلب", "line\nbreak", "a\u0301", "🐶", "\U0010fffe"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    plain, named = (draw(halves(100, 100), [text, "sky"]) for text in ("", name))
    assert colors_in(named) > {(255, 255, 255)}
    assert plain.tobytes() != named.tobytes()


def test_letters_that_no_font_has_become_plain_or_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_system_font_paths", tuple)
    fonts.choose_font.cache_clear()
    texts = [fonts.choose_font(text, 20, "class 7")[1] for text in ("dog", "café", "犬")]
    fonts.choose_font.cache_clear()
    assert texts == ["dog", "cafe", "class 7"]


def test_files(tmp_path: Path, record: Record) -> None:
    writer = OverlayWriter(tmp_path, Vocabulary.parse("dog; sky"))
    writer.write(record("sub/new\nline", 20, 30, 2))
    with Image.open(tmp_path / "overlays" / "sub" / "new\nline.jpg") as image:
        image.load()
        assert image.mode == "RGB"
