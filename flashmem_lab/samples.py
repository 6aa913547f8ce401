"""Inputs for models whose user gives none: the same for the same seed, and fit to be checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.lower.layer import RowFetch
from flashmem_lab.program.program import HostStep, Program
from flashmem_lab.program.sources import dtype_of

_PICTURE_SIDE = 16  # pixels; three planes at least this large are taken for a picture
_SIGN_HEIGHT = 32  # pixels

# Seven-segment signs: both ends of each stroke, as (row 0 to 2, column 0 to 1).
_STROKES = (
    ((0, 0), (0, 1)),
    ((0, 0), (1, 0)),
    ((0, 1), (1, 1)),
    ((1, 0), (1, 1)),
    ((1, 0), (2, 0)),
    ((1, 1), (2, 1)),
    ((2, 0), (2, 1)),
)


def sample_inputs(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays that a program can run on, the same for the same seed.

    An input that picks rows of tables gets rows that all of them have; other integers (masks,
    positions) and booleans are ones, which any model can take. Pictures are pages of signs
    (`page`), other floats are drawn from a normal distribution.
    """
    rows: dict[str, int] = {}
    for command in program.compute:
        if isinstance(command, HostStep) and isinstance(command.work, RowFetch):
            table = program.spans[command.work.table]
            count = table.bytes // table.row_bytes
            rows[command.work.index] = min(count, rows.get(command.work.index, count))
    generator = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for port in program.inputs:
        dtype = dtype_of(port.dtype)
        if port.name in rows:
            arrays[port.name] = generator.integers(0, rows[port.name], port.shape).astype(dtype)
        elif dtype.kind in "iub":
            arrays[port.name] = np.ones(port.shape, dtype)
        elif _is_picture(port.shape):
            arrays[port.name] = page(generator, port.shape).astype(dtype)
        else:
            arrays[port.name] = generator.standard_normal(port.shape).astype(dtype)
    return arrays


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= _PICTURE_SIDE


def page(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Lines of dark seven-segment signs on light paper, each plane with its own tones, in -1 to 1.

    Not white noise: a network that looks for text finds none in it and answers zero everywhere
    (PP-OCRv4's detection: at most 0.0007), and the relative error of nothing says nothing - by it
    onnxruntime differs from itself by 0.3 % between its own two optimisation levels. On a page
    they agree to 1e-6 (measured 2026-11, onnxruntime 1.32). Large signs in strong contrast for
    the same reason: a network that is in doubt answers the rounding of its weights.

    Args:
        generator: drawn from.
        shape: (count, 3, height, width).
    """
    count, planes, height, width = shape
    paper = generator.uniform(0.85, 1.0, (count, planes, 1, 1))
    ink = generator.uniform(-1.0, -0.85, (count, planes, 1, 1))
    tall = min(_SIGN_HEIGHT, height // 2)
    wide, thick = tall * 6 // 10, max(1, tall // 8)
    dark = np.zeros((height, width), bool)
    for top in range(tall // 2, height - tall, tall * 2):
        for left in range(wide, width - wide - thick, wide * 3 // 2):
            chosen = generator.random(len(_STROKES)) < 0.65
            if generator.random() < 0.15:
                continue  # a space
            for (first, last), drawn in zip(_STROKES, chosen, strict=True):
                if drawn:
                    rows = [top + row * (tall - thick) // 2 for row, _ in (first, last)]
                    columns = [left + column * (wide - thick) for _, column in (first, last)]
                    dark[rows[0] : rows[1] + thick, columns[0] : columns[1] + thick] = True
    return np.where(dark, ink, paper)
