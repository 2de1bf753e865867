"""Fonts for the legend: Pillow's own, or one of the system's where that lacks a letter."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc", "Hiragino Sans GB.ttc"),
    *(
        "malgun.ttf",
        "AppleSDGothicNeo.ttc",
        "Nirmala.ttc",
        "NotoSansDevanagari-Regular.ttf",
        "NotoSansThai-Regular.ttf",
    ),
)
"""Fonts usually found on Linux, Windows and macOS, those with the most alphabets first."""


@lru_cache(maxsize=4096)
def choose_font(text: str, size: int, otherwise: str) -> tuple[Font, str]:
    """A font of `size` pixels and the text to set in it.

    The text loses its accents, and then becomes `otherwise`, where no font at hand has its letters.
    """
    own = ImageFont.load_default(size)
    if _has_letters(own, text):
        return own, text
    for path in _system_font_paths():
        font = ImageFont.truetype(path, size)
        if _has_letters(font, text):
            return font, text
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return (own, plain) if _has_letters(own, plain) else (own, otherwise)


@lru_cache(maxsize=1)
def _system_font_paths() -> tuple[str, ...]:
    paths = []
    for name in SYSTEM_FONTS:
        try:
            paths.append(str(ImageFont.truetype(name, 10).path))
        except OSError:  # not on this system
            continue
    return tuple(paths)


def _has_letters(font: Font, text: str) -> bool:
    # A font draws the same sign for all that it lacks, also for this code point, which is no letter anywhere.
    lacking = _shape(font, "\U0010ffff")
    return all(letter.isspace() or _shape(font, letter) != lacking for letter in set(text))


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
