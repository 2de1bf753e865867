"""Fonts for the legend: Pillow's default font, or a system font for text that the default font cannot show."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc", "Hiragino Sans GB.ttc"),
    *("malgun.ttf", "AppleSDGothicNeo.ttc", "Nirmala.ttc"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf"),
)
"""Fonts that Linux, Windows and macOS usually have, those with the most scripts first."""


@lru_cache(maxsize=4096)
def choose_font(text: str, size: int, fallback: str) -> tuple[Font, str]:
    """Choose a font that can show a text.

    If no available font has all characters of the text, its accents are removed; if that is not enough either, the
    fallback replaces it.

    Args:
        text: The text to show.
        size: Font size in pixels.
        fallback: A text that the default font can show.

    Returns:
        The font, and the text to draw with it.
    """
    default = ImageFont.load_default(size)
    if _has_characters(default, text):
        return default, text
    for path in _system_font_paths():
        font = ImageFont.truetype(path, size)
        if _has_characters(font, text):
            return font, text
    decomposed = unicodedata.normalize("NFKD", text)
    without_accents = "".join(character for character in decomposed if not unicodedata.combining(character))
    return (default, without_accents) if _has_characters(default, without_accents) else (default, fallback)


@lru_cache(maxsize=1)
def _system_font_paths() -> tuple[str, ...]:
    paths = []
    for name in SYSTEM_FONTS:
        try:
            paths.append(str(ImageFont.truetype(name, 10).path))
        except OSError:  # not installed
            continue
    return tuple(paths)


def _has_characters(font: Font, text: str) -> bool:
    # A font draws the same glyph for every character that it lacks, such as this code point, which is never assigned.
    missing = _glyph(font, "\U0010ffff")
    return all(character.isspace() or _glyph(font, character) != missing for character in set(text))


def _glyph(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
