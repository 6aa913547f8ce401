"""The picture that the demo reads: a few lines of words, drawn with Pillow's own font."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WORDS = ("FlashMem Lab", "weights stream", "disk to texture", "within a budget")
SIZE = (640, 480)  # width, height: multiples of 32, as the detection network wants
FONT_PIXELS = 44
INKS = ((20, 30, 60), (150, 40, 30), (20, 100, 60), (70, 30, 120))


def draw(words: Sequence[str] = WORDS) -> NDArray[np.uint8]:
    """Height x width x 3, RGB: one line for each of `words`, on light paper."""
    picture = Image.new("RGB", SIZE, (244, 240, 230))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_PIXELS)
    step = SIZE[1] // (len(words) + 1)
    for index, line in enumerate(words):
        place = (48 + 40 * (index % 3), step * (index + 1) - FONT_PIXELS // 2)
        pen.text(place, line, font=font, fill=INKS[index % len(INKS)])
    return np.asarray(picture)
