"""One agent that runs: what it can be asked, and its failures as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flashmem_lab.errors import (
    BundleError,
    CacheCorrupt,
    Cancelled,
    DeviceError,
    FlashMemError,
    InputError,
    OutOfBudget,
    PlanError,
)
from flashmem_lab.runtime.adb.frames import Frame, receive, send
from flashmem_lab.runtime.adb.link import Link

PROTOCOL = 1
_ERRORS: Mapping[str, type[FlashMemError]] = {
    "bundle": BundleError,
    "plan": PlanError,
    "device": DeviceError,
    "budget": OutOfBudget,
    "input": InputError,
    "file": DeviceError,
}
_HINTS = {
    "bundle": "make it again: flashmem-lab bundle MODEL --plan plan.json -o model.fmb",
    "plan": "build it anew from model and plan",
    "device": "`flashmem-lab doctor` says what the device can do",
    "budget": "the plan does not fit its own budget: plan anew",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A program that an agent has opened.

    Attributes:
        compiled: kernels that were compiled; binaries of the others had been kept.
        compile_ns: time for all of that.
    """

    compiled: int
    compile_ns: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, all times in ns on the agent's clock.

    Attributes:
        start_ns, end_ns: of the whole.
        held_peak_bytes: the most that the device held since the program was opened.
        spans: start and end of each command that did something, by id; of an Alloc, when it did.
        queued_ns: when the device was given it, by id; the host's own work is left out.
        resident: resident set of the agent, (time, bytes).
        outputs: bytes of each output, by the id of its command; empty if none were wanted.
    """

    start_ns: int
    end_ns: int
    held_peak_bytes: int
    spans: Mapping[int, tuple[int, int]]
    queued_ns: Mapping[int, int]
    resident: Sequence[tuple[int, int]]
    outputs: Mapping[int, bytes]


class Session:
    """An agent and the program that it has open.

    A failure ends the agent; so does leaving a call early, by an interrupt say: what comes over
    the link is then out of step. `alive` says whether another call makes sense.

    Args:
        link: to an agent that was just started.

    Attributes:
        device: what it says of its device.

    Raises:
        DeviceError: it cannot use its device, or is of another release.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._usable = True
        hello = self._await("HELO")
        if hello.head.get("protocol") != PROTOCOL:
            self.close()
            raise DeviceError("the agent on the device is of another release")
        self.device: Mapping[str, Any] = hello.head["device"]

    def open(
        self,
        program: str,
        weights: Iterable[str] | None,
        kernels: str,
        built: Callable[[int, int], None] | None = None,
    ) -> Opened:
        """Opens a program: checks it, and builds its kernels.

        Args:
            program: a bundle, or a program file; a path on the machine, as the others are.
            weights: its weight files, none for a bundle. None: it is not to run, only its kernels
                are wanted.
            kernels: folder where compiled kernels are kept.
            built: told of every kernel.

        Raises:
            FlashMemError: as `Runtime.run`.
        """
        head = {
            "program": program,
            "weights": None if weights is None else list(weights),
            "kernels": kernels,
        }

        def hear(frame: Frame) -> None:
            if frame.tag == "BUIL" and built is not None:
                built(int(frame.head["done"]), int(frame.head["of"]))

        self._send(Frame("OPEN", head))
        opened = self._await("OPND", hear)
        return Opened(int(opened.head["compiled"]), int(opened.head["compile_ns"]))

    def give(self, command: int, array: np.ndarray) -> None:
        """Gives what a command takes from the user: for all runs to come."""
        self._send(Frame("INPT", {"command": command}, array.tobytes()))

    def run(
        self,
        *,
        outputs: bool,
        state: Callable[[int, Mapping[str, int]], None],
        call: Callable[[int, bytes], bytes],
    ) -> Ran:
        """Runs the program once more.

        Args:
            outputs: whether they are wanted back.
            state: told now and then how many layers were enqueued and what the device holds.
            call: computes a node that the device cannot: id of its command and the bytes of its
                inputs to the bytes of its outputs.

        Raises:
            FlashMemError: as `Runtime.run`.
        """
        arrays: dict[int, bytes] = {}

        def hear(frame: Frame) -> None:
            head = frame.head
            if frame.tag == "STAT":
                held = {pool: int(head[pool]) for pool in ("texture", "buffer", "staging")}
                state(int(head["layer"]), held)
            elif frame.tag == "CALL":
                self._send(Frame("VALS", body=call(int(head["command"]), bytes(frame.body))))
            elif frame.tag == "OUTP":
                arrays[int(head["command"])] = bytes(frame.body)

        self._send(Frame("RUN ", {"outputs": outputs}))
        frame = self._await("DONE", hear)
        done, records = frame.head, np.frombuffer(frame.body, "<i8")
        split = int(done["notes"]) // records.itemsize
        notes, resident = records[:split].reshape(-1, 4).tolist(), records[split:].reshape(-1, 2)
        return Ran(
            start_ns=int(done["start"]),
            end_ns=int(done["end"]),
            held_peak_bytes=int(done["held_peak"]),
            spans={command: (start, end) for command, start, end, _ in notes},
            queued_ns={command: queued for command, _, _, queued in notes if queued >= 0},
            resident=[(time, held) for time, held in resident.tolist()],
            outputs=arrays,
        )

    def shut(self) -> None:
        """Closes the program; the device holds nothing afterwards."""
        self._send(Frame("SHUT"))
        self._await("SHUT")

    def alive(self) -> bool:
        """Whether the agent still answers: it may have gone with its machine since its last use."""
        if not self._usable:
            return False
        try:
            self._send(Frame("PING"))
            self._await("PONG")
        except FlashMemError:
            return False
        return True

    def close(self) -> None:
        """Ends the agent."""
        self._usable = False
        self._link.close()

    def _send(self, frame: Frame) -> None:
        try:
            send(self._link, frame)
        except DeviceError as error:
            self._listen_to_its_end(error)

    def _listen_to_its_end(self, error: DeviceError) -> None:
        """An agent that takes no more may have said why."""
        frame = Frame("")
        try:
            while frame.tag != "FAIL":
                frame = receive(self._link)
        except DeviceError:
            self.close()
            raise error from None
        self._raise(frame)

    def _await(self, tag: str, hear: Callable[[Frame], None] | None = None) -> Frame:
        """The next frame of that tag; those before it go to `hear`."""
        try:
            while True:
                frame = receive(self._link)
                if frame.tag == "FAIL":
                    self._raise(frame)
                if frame.tag == tag:
                    return frame
                if hear is not None:
                    hear(frame)
        except BaseException:
            self.close()
            raise

    def _raise(self, frame: Frame) -> None:
        self.close()
        kind, message = str(frame.head.get("kind")), str(frame.head.get("message"))
        if kind == "cancelled":
            raise Cancelled
        if kind == "corrupt":
            raise CacheCorrupt(Path("the file on the device"), message)
        raise _ERRORS.get(kind, DeviceError)(message, hint=_HINTS.get(kind, ""))
