"""The user's arrays: read from .npy files, compared with a reference, saved."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashmem_lab.errors import InputError, UsageError, from_os_error
from flashmem_lab.lower.layer import Port, Precision

Arrays = Mapping[str, np.ndarray]

_NAME_LENGTH = 150  # characters; file systems take 255 bytes, suffix and digest included

TOLERANCE = {Precision.FP32: 1e-4, Precision.FP16: 1e-2}
"""Largest relative L2 error against onnxruntime that `check` lets pass."""


@dataclass(frozen=True, slots=True)
class Check:
    """A comparison with a reference.

    Attributes:
        max_abs: largest absolute difference of any element; infinite where only one is not
            a number.
        rel_l2: L2 norm of all differences over that of the reference.
        tolerance: the largest rel_l2 that is fine.
        ok: rel_l2 is at most the tolerance, and integers and booleans are equal.
    """

    max_abs: float
    rel_l2: float
    tolerance: float
    ok: bool


def read_inputs(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Arrays of .npy files, by input name.

    Raises:
        InputError: a file is missing or is not an array in NumPy's format.
    """
    return {name: _read_npy(name, path) for name, path in files.items()}


def _read_npy(name: str, path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"input {name!r}: there is no file {path}", hint="check the path"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"input {name!r}: {path} is not a .npy file: {error}",
            hint="save the array with numpy.save",
        ) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError(f"input {name!r}: {path} is an archive", hint="give a single .npy file")
    return loaded


def compare(outputs: Arrays, reference: Arrays, precision: Precision) -> Check:
    """Compares outputs with a reference, all of them together.

    Args:
        outputs: what was computed.
        reference: what is right; the same names.
        precision: of the weights; sets the tolerance.
    """
    worst = difference = size = 0.0
    exact = outputs.keys() == reference.keys()
    for name in outputs.keys() & reference.keys():
        found, wanted = outputs[name], reference[name]
        if found.shape != wanted.shape:
            exact = False
            continue
        if wanted.dtype.kind in "iub":
            exact = exact and bool(np.array_equal(found, wanted))
            continue
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(invalid="ignore"):
            # Equal infinities have no difference, nor have two that are not a number.
            gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, a - b)
        worst = max(worst, float(np.nan_to_num(np.abs(gap), nan=np.inf).max(initial=0.0)))
        difference += float(np.sum(gap**2))
        size += float(np.sum(np.where(np.isfinite(b), b, 0.0) ** 2))
    ratio = np.sqrt(difference / size) if size else np.sqrt(difference)
    rel_l2 = float(np.nan_to_num(ratio, nan=np.inf))
    limit = TOLERANCE[precision]
    return Check(worst, rel_l2, limit, ok=exact and rel_l2 <= limit)


# --- saving --------------------------------------------------------------------------------


def output_files(directory: Path, ports: Sequence[Port]) -> dict[str, Path]:
    """The .npy file of each output; characters that do not fit a file name become "_".

    Names that are too long or would then be the same end in a digest of the whole name.

    Raises:
        UsageError: one of them exists already, or the directory is or lies in something else.
    """
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest} is not a folder", hint="name a folder for the outputs")
    plain = {port.name: re.sub(r"[^A-Za-z0-9._-]", "_", port.name) for port in ports}
    # Some file systems take upper and lower case for the same.
    count = Counter(name.casefold() for name in plain.values())
    paths = {}
    for name, text in plain.items():
        if len(text) > _NAME_LENGTH or count[text.casefold()] > 1:
            digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
            text = f"{text[:_NAME_LENGTH]}-{digest}"
        paths[name] = directory / f"{text}.npy"
    for path in paths.values():
        if path.exists():
            raise UsageError(
                f"{path} exists and is left alone", hint="name another folder, or delete it"
            )
    return paths


def save_outputs(outputs: Arrays, paths: Mapping[str, Path]) -> None:
    """Writes each output to its file, all of them or none.

    Raises:
        DiskFull: no room; what was written is removed, with the folders made for it.
        FlashMemError: a file cannot be written.
    """
    written: list[Path] = []
    folders = {folder for path in paths.values() for folder in path.parents if not folder.exists()}
    try:
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, outputs[name], allow_pickle=False)
            with path.open("xb") as file:  # never over a file that came meanwhile
                written.append(path)
                file.write(content.getbuffer())
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        for folder in sorted(folders, key=lambda made: len(made.parts), reverse=True):
            with suppress(OSError):  # not made yet, or someone else has used it meanwhile
                folder.rmdir()
        raise from_os_error(error, "saving outputs") from error
