"""What stands around PP-OCRv4's two networks: picture to tensor, and tensor to words.

Written from the models' documentation: DB detection ("Real-time Scene Text Detection with
Differentiable Binarization", Liao et al. 2020) for upright lines, and CTC greedy decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Pixels = NDArray[np.uint8]  # height x width x 3, RGB
Floats = NDArray[np.float32]

LINE_HEIGHT = 48  # what the recognition network was trained on
LINE_WIDTH = 320

THRESHOLD = 0.3  # a pixel belongs to text
BOX_THRESHOLD = 0.5  # mean probability inside a box that is kept
UNCLIP_RATIO = 1.6  # the network draws text shrunk; boxes grow by area * ratio / perimeter
LEAST_SIDE = 3  # pixels; smaller boxes are noise


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels of the picture; right and bottom are outside it."""

    left: int
    top: int
    right: int
    bottom: int


def detection_input(picture: Pixels) -> Floats:
    """Tensor (1, 3, H, W) of a picture whose sides are multiples of 32, blue first, in [-1, 1]."""
    height, width, _ = picture.shape
    if height % 32 or width % 32:
        raise ValueError(f"{width} x {height}: sides must be multiples of 32")
    return _tensor(picture)


def find_boxes(probability: Floats) -> list[Box]:
    """Boxes of text lines, from top to bottom and left to right.

    Args:
        probability: (1, 1, H, W), the detection network's output.
    """
    heat = probability[0, 0]
    # One pixel of dilation joins letters that the network just fails to connect.
    mask = ndimage.binary_dilation(heat > THRESHOLD, structure=np.ones((2, 2)))
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    boxes = []
    for rows, columns in ndimage.find_objects(labels, count):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < LEAST_SIDE or heat[rows, columns].mean() < BOX_THRESHOLD:
            continue
        grow = round(height * width * UNCLIP_RATIO / (2 * (height + width)))
        boxes.append(
            Box(
                left=max(0, columns.start - grow),
                top=max(0, rows.start - grow),
                right=min(heat.shape[1], columns.stop + grow),
                bottom=min(heat.shape[0], rows.stop + grow),
            )
        )
    return sorted(boxes, key=lambda box: (box.top, box.left))


def recognition_input(picture: Pixels, box: Box) -> Floats:
    """Tensor (1, 3, 48, 320) of one line: scaled to its height, padded on the right with grey."""
    line = Image.fromarray(picture[box.top : box.bottom, box.left : box.right])
    width = min(LINE_WIDTH, round(line.width * LINE_HEIGHT / line.height))
    scaled = np.asarray(line.resize((width, LINE_HEIGHT), Image.Resampling.BILINEAR))
    tensor = np.zeros((1, 3, LINE_HEIGHT, LINE_WIDTH), np.float32)  # 0 is mid-grey
    tensor[..., :width] = _tensor(scaled)
    return tensor


def alphabet_of(characters: str) -> tuple[str, ...]:
    """Classes of the recognition network from its metadata: CTC's blank, characters, space."""
    return ("", *characters.removesuffix("\n").split("\n"), " ")


def decode(probabilities: Floats, alphabet: Sequence[str]) -> str:
    """Greedy CTC: the best class of each step, repeats merged, blanks dropped.

    Args:
        probabilities: (1, steps, classes).
        alphabet: text of each class; class 0 is the blank.
    """
    if probabilities.shape[-1] != len(alphabet):
        raise ValueError(f"{probabilities.shape[-1]} classes for {len(alphabet)} characters")
    best = probabilities[0].argmax(axis=-1)
    kept = best[np.insert(best[1:] != best[:-1], 0, True)]
    return "".join(alphabet[index] for index in kept).strip()


def _tensor(picture: Pixels) -> Floats:
    blue_first = picture[:, :, ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray((blue_first.astype(np.float32) / 255 - 0.5) / 0.5)
