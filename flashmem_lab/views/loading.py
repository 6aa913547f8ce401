"""The model lowered for every device and precision that was asked for, in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab.errors import DeviceError, FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.views.edits import Edits, History
from flashmem_lab.views.planning import Choice, Planner
from flashmem_lab.views.running import Runner

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.views.engine import Engine


@dataclass(frozen=True, slots=True)
class Source:
    """What is opened.

    Attributes:
        model: path of the .onnx file.
        dims: values of symbolic dimensions, by name.
        shapes: shapes of inputs, by name.
    """

    model: Path
    dims: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load gave: a planner for the choice with its device's own id, and every device."""

    choice: Choice
    planner: Planner
    devices: Sequence[DeviceState]


class Planners:
    """A planner for each device and precision; one that is not there yet is made in a thread.

    Args:
        engine: opens and plans.
        source: what is opened.
        edits: what was asked of the schedules before.
        ended: called with what a load gave or why it gave nothing, in the kernel's thread.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        edits: Sequence[Edits],
        ended: Callable[[Future[Loaded]], None],
    ) -> None:
        self._engine, self._source = engine, source
        self._edits = {(one.device, one.precision): one for one in edits}
        self._made: dict[tuple[str, Precision], Planner] = {}
        self._runner: Runner[Loaded] = Runner(lambda message: None, self._ended)
        self._tell = ended

    def get(self, choice: Choice) -> Planner | None:
        """The planner for the device and precision of `choice`; None where it is not there yet."""
        return self._made.get((choice.device, choice.precision))

    @property
    def busy(self) -> bool:
        """Whether a model is being opened."""
        return self._runner.job is not None

    @property
    def edits(self) -> tuple[Edits, ...]:
        """What was asked of the schedules, here and before."""
        made = {key: planner.edits for key, planner in self._made.items()}
        return tuple(
            {**self._edits, **{key: one for key, one in made.items() if one is not None}}.values()
        )

    def load(self, choice: Choice, others: Sequence[str] = (), *, look: bool = False) -> None:
        """Opens the model for `choice`; where no event loop runs, until that is done.

        Args:
            choice: says device and precision.
            others: devices to take where that one is not there, in turn.
            look: for every device, too.

        Raises:
            FlashMemError: without an event loop, what went wrong; it is told too.
        """
        if not self._runner.start(lambda hear, stop: self._load(choice, others, look)):
            self._runner.wait()

    def wait(self) -> None:
        """Waits for a load under way; how it ended is told as it would be later."""
        with suppress(FlashMemError):
            self._runner.wait()

    def close(self) -> None:
        """Tells of nothing any more."""
        self._runner.close()

    def _load(self, choice: Choice, others: Sequence[str], look: bool) -> Loaded:
        """In a thread."""
        devices = self._engine.devices() if look else ()
        prepared = self._prepared(choice, others)
        choice = replace(choice, device=prepared.device.id)
        known = self._edits.get((choice.device, choice.precision))
        history = History(known.states, known.at) if known else History()
        planner = Planner(self._engine, prepared, history)
        planner.scale(choice)  # its first plan takes longest
        return Loaded(choice, planner, devices)

    def _prepared(self, choice: Choice, others: Sequence[str]) -> Prepared:
        *tried, last = (choice.device, *others)
        for device in tried:
            with suppress(DeviceError):
                return self._open(device, choice.precision)
        return self._open(last, choice.precision)

    def _open(self, device: str, precision: Precision) -> Prepared:
        return self._engine.load(
            self._source.model,
            device=self._engine.open_device(device),
            precision=precision,
            dims=self._source.dims,
            shapes=self._source.shapes,
        )

    def _ended(self, job: Future[Loaded]) -> None:
        if job.exception() is None:
            choice = job.result().choice
            self._made[choice.device, choice.precision] = job.result().planner
        self._tell(job)
