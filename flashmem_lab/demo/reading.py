"""Finds and reads the words of a picture, both networks run by the lab's own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from flashmem_lab import workflow
from flashmem_lab.demo import ocr
from flashmem_lab.demo.models import Models
from flashmem_lab.device import DeviceSpec
from flashmem_lab.lower import Precision
from flashmem_lab.outcome import Outcome
from flashmem_lab.plan import Plan, Strategy
from flashmem_lab.runtime.base import Runtime
from flashmem_lab.units import Budget

_RUNS = 3  # one cold, two warm


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and the two runs that stand for it.

    Attributes:
        words: one text for each line, from top to bottom.
        detection: run on the picture.
        recognition: run on its first line.
    """

    words: tuple[str, ...]
    detection: Outcome
    recognition: Outcome


class Reader:
    """Both networks lowered for one device; kernels are built once and kept.

    Args:
        models: the .onnx files.
        device, runtime: where they run.
        precision: of the weights.
        size: width and height of the pictures.
    """

    def __init__(
        self,
        models: Models,
        device: DeviceSpec,
        runtime: Runtime,
        *,
        precision: Precision,
        size: tuple[int, int],
    ) -> None:
        width, height = size
        self._runtime = runtime
        self.detection = workflow.load(
            models.detection,
            device=device,
            precision=precision,
            shapes={"x": (1, 3, height, width)},
        )
        self.recognition = workflow.load(
            models.recognition,
            device=device,
            precision=precision,
            shapes={"x": (1, 3, ocr.LINE_HEIGHT, ocr.LINE_WIDTH)},
        )
        self._alphabet = ocr.alphabet_of(self.recognition.graph.metadata["character"])

    def read(
        self,
        picture: ocr.Pixels,
        budget: Budget,
        *,
        strategy: Strategy = Strategy.GREEDY,
        progress: workflow.Progress | None = None,
    ) -> Reading:
        """Reads every line of `picture` with each network under `budget`.

        Raises:
            FlashMemError: the budget is too small, or the device refused something.
        """
        plans = {
            prepared.model.name: workflow.make_plan(prepared, budget=budget, strategy=strategy)
            for prepared in (self.detection, self.recognition)
        }

        def run(prepared: workflow.Prepared, tensor: ocr.Floats, runs: int) -> Outcome:
            plan: Plan = plans[prepared.model.name]
            return workflow.run(
                prepared,
                plan,
                {"x": tensor},
                repeat=runs,
                runtime=self._runtime,
                progress=progress,
            )

        found = run(self.detection, ocr.detection_input(picture), _RUNS)
        words: list[str] = []
        lines: list[Outcome] = []
        for box in ocr.find_boxes(_output(found)):
            tensor = ocr.recognition_input(picture, box)
            lines.append(run(self.recognition, tensor, 1 if lines else _RUNS))
            words.append(ocr.decode(_output(lines[-1]), self._alphabet))
        if not lines:
            # Nothing found: an empty line still shows what recognition costs.
            empty = np.zeros((1, 3, ocr.LINE_HEIGHT, ocr.LINE_WIDTH), np.float32)
            lines.append(run(self.recognition, empty, _RUNS))
        return Reading(tuple(words), found, lines[0])


@contextmanager
def open_reader(
    models: Models,
    device: DeviceSpec,
    *,
    size: tuple[int, int],
    precision: Precision = Precision.FP32,
) -> Iterator[Reader]:
    """A Reader on a runtime of its own, closed in the end."""
    with closing(workflow.open_runtime(device)) as runtime:
        yield Reader(models, device, runtime, precision=precision, size=size)


def _output(outcome: Outcome) -> ocr.Floats:
    (array,) = outcome.result.outputs.values()
    return np.asarray(array, np.float32)
