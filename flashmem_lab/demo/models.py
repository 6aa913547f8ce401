"""PP-OCRv4's two networks, taken out of a wheel that carries them; the wheel is never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flashmem_lab.errors import FlashMemError, from_os_error

WHEEL = "rapidocr-onnxruntime==1.4.4"
FOLDER = "rapidocr_onnxruntime/models"
DETECTION = "ch_PP-OCRv4_det_infer.onnx"
RECOGNITION = "ch_PP-OCRv4_rec_infer.onnx"
SHA256 = {
    DETECTION: "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    RECOGNITION: "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
}


@dataclass(frozen=True, slots=True)
class Models:
    """Paths of the two .onnx files."""

    detection: Path
    recognition: Path


def fetch(folder: Path) -> Models:
    """The models in `folder`, downloaded by pip the first time.

    Raises:
        FlashMemError: the wheel cannot be downloaded, or is not the one that is known.
    """
    models = Models(folder / DETECTION, folder / RECOGNITION)
    if not all(_is_known(folder / name) for name in SHA256):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as scratch:
                _unpack(_download(Path(scratch)), Path(scratch), folder)
        except OSError as error:
            raise from_os_error(error, "fetching the demo's models") from error
    return models


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), WHEEL], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FlashMemError(
            f"pip could not download {WHEEL}: {last}",
            hint="the demo needs the network once, for 15 MB of models",
        )
    return wheels[0]


def _unpack(wheel: Path, scratch: Path, folder: Path) -> None:
    """Moves the models into `folder` once both are what they should be."""
    with zipfile.ZipFile(wheel) as archive:
        for name in SHA256:
            (scratch / name).write_bytes(archive.read(f"{FOLDER}/{name}"))
    for name in SHA256:
        if not _is_known(scratch / name):
            raise FlashMemError(f"{name} in {wheel.name} is not the model that the demo knows")
    for name in SHA256:
        (scratch / name).replace(folder / name)


def _is_known(path: Path) -> bool:
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]
