"""The runtime protocol on another machine: files pushed once, an agent kept for as long as it is.

What is pushed is told apart by content: weights by the preamble of their file, which holds the
checksum of a header that holds those of all blocks. So a plan made anew sends its program, some
hundred kilobytes, and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from uuid import uuid4

import numpy as np
import xxhash

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.errors import DeviceError, UsageError, from_os_error
from flashmem_lab.lower.layer import HostCall
from flashmem_lab.program.codec import write_program
from flashmem_lab.program.container import PREAMBLE_BYTES
from flashmem_lab.program.program import Alloc, HostStep, Program, ReadOutput, WriteInput
from flashmem_lab.program.sources import dtype_of
from flashmem_lab.runtime.adb.build import Target, build_agent
from flashmem_lab.runtime.adb.link import Host
from flashmem_lab.runtime.adb.notes import events_of_run, view_bytes
from flashmem_lab.runtime.adb.session import Ran, Session
from flashmem_lab.runtime.base import Progress, RunResult
from flashmem_lab.runtime.booking import Booking
from flashmem_lab.runtime.hostcalls import evaluate_call
from flashmem_lab.runtime.measured import Building, Pass, result_of
from flashmem_lab.runtime.ports import check_inputs, to_port
from flashmem_lab.runtime.tables import Tables
from flashmem_lab.runtime.weightfile import WeightFiles


def start_agent(host: Host, cache: Path) -> Session:
    """Builds the agent for a machine, pushes it there unless it is there, and starts it.

    Args:
        host: the machine.
        cache: folder where agents that were built are kept.

    Raises:
        DeviceError: it cannot be built or started, or finds no device.
    """
    agent = build_agent(Target(host.abi, android=host.android), cache)
    size = agent.stat().st_size
    path = f"{host.folder}/{agent.name}-{xxhash.xxh3_64_hexdigest(agent.read_bytes())}"
    if not host.has(path, size):
        host.push(agent, path)
    return Session(host.start([path, "serve"], {}))


class AdbRuntime:
    """Runs programs on another machine; a context manager. Not for several threads at once.

    Args:
        host: the machine.
        spec: its device.
        cache: folder where agents that were built are kept.
    """

    def __init__(self, host: Host, spec: DeviceSpec, cache: Path) -> None:
        self.spec = spec
        self._host = host
        self._cache = cache
        self._running: Session | None = None
        self._held: Mapping[str, int] = {}

    def __enter__(self) -> AdbRuntime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the agent; files stay on the machine for later runs."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def held_bytes(self) -> Mapping[str, int]:
        """See `Runtime.held_bytes`; as the agent last told, some twenty times a second."""
        return self._held

    def run(
        self,
        program: Program,
        weights: Path | Sequence[Path],
        inputs: Mapping[str, np.ndarray],
        *,
        repeat: int = 1,
        progress: Progress | None = None,
    ) -> RunResult:
        """See `Runtime.run`. Files are pushed and kernels built before the first run starts.

        Times are those of the other machine. `peak_bytes` has "host" too: the highest resident set
        of the agent. Nodes that no kernel covers are computed here, with their inputs and outputs
        sent over the link: their time is part of the run.
        """
        if repeat < 1:
            raise UsageError(f"a program runs at least once, not {repeat} times")
        arrays = check_inputs(program.inputs, inputs)
        paths = [weights] if isinstance(weights, Path) else list(weights)
        there = [self._pushed(path, progress) for path in paths]
        file = WeightFiles(paths, program.spans)
        try:
            with self._in_use() as session:
                building = self._open(session, program, there, progress)
                for command, array in _wanted(program, arrays):
                    session.give(command, array)
                before = self._host.health()
                tables, booking = Tables.of(program), Booking(program)
                passes: list[Pass] = []
                resident: list[tuple[int, int]] = []
                call = partial(_compute, _host_calls(program), file)
                for number in range(repeat):
                    tell = self._listener(program, f"run {number + 1} of {repeat}", progress)
                    ran = session.run(outputs=number == repeat - 1, state=tell, call=call)
                    booking.book(number, (ran.start_ns, ran.end_ns), *_booked(program, ran))
                    passes.append(_pass(program, tables, ran, number))
                    resident += ran.resident
                session.shut()
                after = self._host.health()
        finally:
            self._held = {}
            file.close()
        return result_of(
            program,
            passes,
            booking,
            resident,
            building,
            origin="adb",
            device=self.spec.id,
            notes={
                "driver": self.spec.driver,
                "device": self.spec.name,
                "held_peak_bytes": str(ran.held_peak_bytes),
                **{f"{name}_before": words for name, words in before.items()},
                **{f"{name}_after": words for name, words in after.items()},
            },
        )

    def prepare(self, program: Program, progress: Progress | None = None) -> None:
        """See `Runtime.prepare`."""
        with self._in_use() as session:
            self._open(session, program, None, progress)
            session.shut()

    @contextmanager
    def _in_use(self) -> Iterator[Session]:
        """The agent that runs, or a new one; ended where its use is left early."""
        if self._running is None or not self._running.alive():
            self.close()
            self._running = start_agent(self._host, self._cache)
        try:
            yield self._running
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        session: Session,
        program: Program,
        weights: Sequence[str] | None,
        progress: Progress | None,
    ) -> Building:
        built = partial(progress, "building kernels") if progress is not None else None
        path = f"{self._host.folder}/programs/{uuid4().hex}.fmp"
        with TemporaryDirectory(prefix="flashmem-") as folder:
            local = Path(folder) / "program.fmp"
            write_program(program, local)
            self._host.push(local, path)
        try:
            opened = session.open(path, weights, f"{self._host.folder}/kernels", built)
        finally:
            with suppress(DeviceError):  # the machine may be gone, and that is said already
                self._host.remove(path)
        return Building(opened.compile_ns / 1e6, opened.compiled)

    def _pushed(self, local: Path, progress: Progress | None) -> str:
        """Where the machine has that file, after pushing it if it has not."""
        try:
            size = local.stat().st_size
            with local.open("rb") as file:
                digest = xxhash.xxh3_128_hexdigest(file.read(PREAMBLE_BYTES))
        except OSError as error:
            raise from_os_error(error, "opening packed weights") from error
        path = f"{self._host.folder}/weights/{digest}{local.suffix}"
        if not self._host.has(path, size):
            telling = partial(progress, "copying weights to the device") if progress else None
            self._host.push(local, path, telling)
        return path

    def _listener(
        self, program: Program, what: str, progress: Progress | None
    ) -> Callable[[int, Mapping[str, int]], None]:
        def hear(layer: int, held: Mapping[str, int]) -> None:
            self._held = held
            if progress is not None:
                progress(what, layer, len(program.layers))

        return hear


def _wanted(program: Program, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """What each command takes from the user, as the device takes it."""
    for command in program.compute:
        if isinstance(command, WriteInput):
            dtype = dtype_of(command.view.dtype)
            yield command.id, np.ascontiguousarray(arrays[command.name], dtype)
        elif isinstance(command, HostStep) and not isinstance(command.work, HostCall):
            yield command.id, np.ascontiguousarray(arrays[command.work.index], np.int64)


def _host_calls(program: Program) -> dict[int, HostCall]:
    steps = (command for command in program.compute if isinstance(command, HostStep))
    return {step.id: step.work for step in steps if isinstance(step.work, HostCall)}


def _compute(calls: Mapping[int, HostCall], file: WeightFiles, command: int, given: bytes) -> bytes:
    """Outputs of a node, from its inputs, both one array behind the other."""
    work = calls[command]
    arrays: dict[str, np.ndarray] = {}
    at = 0
    for name, view in work.inputs:
        dtype, count = dtype_of(view.dtype), prod(view.shape)
        arrays[name] = np.frombuffer(given, dtype, count, at).reshape(view.shape)
        at += view_bytes(view)
    outputs = evaluate_call(work, arrays, file)
    return b"".join(
        np.ascontiguousarray(outputs[name], dtype_of(view.dtype)).tobytes()
        for name, view in work.outputs
    )


def _booked(program: Program, ran: Ran) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
    """When each Alloc was carried out, and the spans of the compute lane."""
    made = (c.id for c in program.memory if isinstance(c, Alloc) and c.id in ran.spans)
    computed = (c.id for c in program.compute if c.id in ran.spans)
    return {one: ran.spans[one][0] for one in made}, {one: ran.spans[one] for one in computed}


def _pass(program: Program, tables: Tables, ran: Ran, number: int) -> Pass:
    ports = {port.name: port for port in program.outputs}
    outputs: dict[str, np.ndarray] = {}
    for command in program.compute:
        if isinstance(command, ReadOutput) and command.id in ran.outputs:
            array = np.frombuffer(ran.outputs[command.id], dtype_of(command.view.dtype))
            port = ports[command.name]
            outputs[port.name] = to_port(array.reshape(command.view.shape), port)
    events = events_of_run(program, tables, ran, number)
    return Pass(ran.start_ns, ran.end_ns, events, outputs)
