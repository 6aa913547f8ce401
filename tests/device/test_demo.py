"""The demo's own functions: the words of its picture, and of another one."""

from pathlib import Path

import numpy as np
import pytest

from flashmem_lab import workflow
from flashmem_lab.demo import models, ocr, picture
from flashmem_lab.demo.reading import open_reader
from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower import Precision
from flashmem_lab.units import Budget

_KEPT = Path(__file__).resolve().parents[2] / "out" / "models"  # where `make demo` keeps them


@pytest.fixture(scope="session")
def files() -> models.Models:
    try:
        return models.fetch(_KEPT)
    except FlashMemError as error:
        pytest.fail(f"the demo's models are not here: {error.message}")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path))


@pytest.mark.parametrize("precision", list(Precision))
def test_words_are_read_under_the_least_budget(
    files: models.Models, device_id: str, precision: Precision
) -> None:
    device = workflow.open_device(device_id)
    words = ("Streaming", "2026 phones")
    with open_reader(files, device, size=picture.SIZE, precision=precision) as reader:
        reading = reader.read(picture.draw(words), Budget(share=0.0))
    assert reading.words == words
    for outcome in (reading.detection, reading.recognition):
        assert outcome.result.peak_bytes["total"] == outcome.program.predicted_peak_bytes
        assert outcome.result.peak_bytes["total"] <= outcome.program.budget_bytes


def test_an_empty_picture_has_no_words(files: models.Models, device_id: str) -> None:
    device = workflow.open_device(device_id)
    with open_reader(files, device, size=(320, 96)) as reader:
        blank = np.full((96, 320, 3), 240, np.uint8)
        assert reader.read(blank, Budget(share=0.5)).words == ()


def test_ctc_merges_repeats_and_drops_blanks() -> None:
    alphabet = ocr.alphabet_of("a\nb\n")
    assert alphabet == ("", "a", "b", " ")
    steps = [1, 1, 0, 1, 2, 2, 3, 0, 2, 0]
    probabilities = np.eye(4, dtype=np.float32)[steps][None]
    assert ocr.decode(probabilities, alphabet) == "aab b"


def test_boxes_are_grown_sorted_and_filtered() -> None:
    heat = np.zeros((1, 1, 96, 128), np.float32)
    heat[0, 0, 60:70, 20:100] = 0.9
    heat[0, 0, 10:20, 30:90] = 0.9
    heat[0, 0, 40:50, 30:60] = 0.35  # above the pixel threshold, below the box's
    heat[0, 0, 90, 5] = 0.9  # noise
    boxes = ocr.find_boxes(heat)
    assert [box.top < 30 for box in boxes] == [True, False]
    first = boxes[0]
    assert first.left < 30
    assert first.right > 90
    assert first.top < 10
    assert first.bottom > 20


def test_inputs_are_scaled_as_the_networks_learnt() -> None:
    white = np.full((64, 96, 3), 255, np.uint8)
    assert ocr.detection_input(white).shape == (1, 3, 64, 96)
    assert ocr.detection_input(white).max() == 1.0
    with pytest.raises(ValueError, match="multiples of 32"):
        ocr.detection_input(white[:60])
    line = ocr.recognition_input(white, ocr.Box(0, 0, 96, 64))
    assert line.shape == (1, 3, ocr.LINE_HEIGHT, ocr.LINE_WIDTH)
    assert (line[..., :72] == 1).all()
    assert (line[..., 72:] == 0).all()
