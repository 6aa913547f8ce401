"""Walks a Program: memory, compute and weights at hand on the main thread, reads on others."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter_ns

import numpy as np
import pyopencl as cl

from flashmem_lab.device.spec import Transport
from flashmem_lab.garbage import undisturbed
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, MemoryCommand, Program
from flashmem_lab.runtime.arena import Arena, arena_of, fits
from flashmem_lab.runtime.booking import Booking
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.measured import Pass
from flashmem_lab.runtime.opencl.blockobjects import BlockObjects
from flashmem_lab.runtime.opencl.clock import DeviceClock
from flashmem_lab.runtime.opencl.compute import ComputeLane
from flashmem_lab.runtime.opencl.copying import CopyTransport, StagingRing
from flashmem_lab.runtime.opencl.disk import Lanes, Loader
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.host import HostSide
from flashmem_lab.runtime.opencl.inline import Carrying, InlineTransport, SlotRing
from flashmem_lab.runtime.opencl.inplace import InFile, InPlace
from flashmem_lab.runtime.opencl.landings import Landings
from flashmem_lab.runtime.opencl.launches import Launches
from flashmem_lab.runtime.opencl.layout import Layout
from flashmem_lab.runtime.opencl.making import Making
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.onebuffer import OneBuffer
from flashmem_lab.runtime.opencl.pinned import KeptWeights
from flashmem_lab.runtime.opencl.recorder import Recorder
from flashmem_lab.runtime.opencl.ringed import in_place
from flashmem_lab.runtime.opencl.signals import Signals, Stopped
from flashmem_lab.runtime.opencl.stretched import Stretched
from flashmem_lab.runtime.opencl.transports import (
    InPlaceTransport,
    MapTransport,
    WeightTransport,
)
from flashmem_lab.runtime.ports import to_port
from flashmem_lab.runtime.stretches import LaterRuns
from flashmem_lab.runtime.tables import Tables
from flashmem_lab.runtime.weightfile import WeightFiles


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device that is open.

    Attributes:
        device, context: the device and its only context.
        compute, transfer: an in-order queue for each lane.
        host_memory: whether it uses memory of the host as it is (`works_in_place`).
        placed: whether its kernels are told where their operands begin (`program.placed`).
    """

    device: cl.Device
    context: cl.Context
    compute: cl.CommandQueue
    transfer: cl.CommandQueue
    host_memory: bool
    placed: bool


class Engine:
    """Runs one program any number of times; preloaded weights stay until `close`.

    The main thread walks the memory order and enqueues the compute lane. It waits for uploads to
    be enqueued, for the disk where the next layer's weights are used in place, and for the device
    only where objects are blocks of their own and a layer's weights, or activations that fit no
    arena, have no room otherwise. What the device holds, room for what has ended included, is at
    most the highest that the memory order itself holds.

    Args:
        device: where it runs.
        program: sound (`check_program`); the bounds of what it touches are not checked again.
        layout: how its objects lie.
        file: the packed weights.
        kernels: one for each of layout.sources.
        ledger: counts and caps what the device holds.

    Attributes:
        booking: the memory order of each run, on the device's clock.
    """

    def __init__(
        self,
        device: OpenDevice,
        program: Program,
        layout: Layout,
        file: WeightFiles,
        kernels: Sequence[cl.Kernel],
        ledger: Ledger,
    ) -> None:
        self._device = device
        self._program = program
        self._file = file
        self._tables = Tables.of(program)
        self._launches = Launches(program, kernels, layout.told)
        self._carrying = Carrying(program)
        self._ledger = ledger
        self.booking = Booking(program)
        alignment = device.device.mem_base_addr_align // 8
        in_host = alignment if device.host_memory else 0
        self._in_place: InPlace
        self._objects: DeviceObjects
        if layout.places is not None:
            self._in_place = InFile(frozenset(), file)
            self._objects = OneBuffer(device.context, ledger, program, layout.places)
        else:
            arena = arena_of(program, alignment)
            self._in_place = in_place(program, file, alignment=in_host, activations=arena.bytes)
            self._objects = self._blocks(arena)
        self._clock = DeviceClock(device.compute)
        self._ring: StagingRing | SlotRing | None = None
        self._kept = KeptWeights(device.context, device.transfer, program, file)
        self._landings = Landings(device.context, device.transfer)
        self._lanes: Lanes | None = None
        self._later = LaterRuns.of(program, self._objects.lasting, self._objects.fixed)
        self._stretched = Stretched(self._launches, device.compute)

    def run(
        self,
        number: int,
        inputs: Mapping[str, np.ndarray],
        progress: Callable[[int, int], None] | None = None,
        *,
        again: bool = False,
    ) -> Pass:
        """Runs the program once; run 0 also does what is done once.

        The outputs lie where those of earlier runs lay: nobody may need them any more.

        Args:
            number: of the run, from 0.
            inputs: the user's arrays, checked.
            progress: called with the number of layers enqueued and of all.
            again: whether another run follows.

        Raises:
            As `Runtime.run`; whatever the run held is still there until `close`.
        """
        program, first = self._program, number == 0
        with translating("calibrating the device's clock"):
            self._clock.calibrate()
        start_ns = perf_counter_ns()
        signals = Signals(frozenset() if first else self._later.done)
        recorder = Recorder(self._tables, number)
        self._objects.begin_run()
        transport = self._transport(signals, first=first)
        if number < 2 or self._lanes is None:  # later runs load as the second one does
            self._lanes = Lanes.of(program, transport, first_run=first)
        ahead = self._in_place.ahead
        if ahead is not None:
            ahead.begin(again=again)
        loader = Loader(
            self._lanes,
            transport=transport,
            ahead=ahead,
            queue=self._device.transfer,
            signals=signals,
            recorder=recorder,
        )
        making = Making(
            program.objects,
            self._tables,
            self._objects,
            self._in_place,
            transport,
            loader,
            signals,
        )
        lane = ComputeLane(
            program,
            program.compute if first else self._later.steps,
            launches=self._launches,
            stretched=self._stretched,
            carrying=self._carrying,
            inline=transport if isinstance(transport, InlineTransport) else None,
            queue=self._device.compute,
            objects=self._objects,
            host=HostSide(self._device.compute, self._objects, self._file, program.spans, inputs),
            inputs=inputs,
            landings=self._landings,
            signals=signals,
            before_wait=making.make_for,
            recorder=recorder,
            progress=progress,
        )
        loader.start()
        try:
            memory = program.memory if first else self._later.memory
            with undisturbed():
                self._walk(memory, lane, making, signals)
            signals.end("main")
        except Stopped:
            pass  # the disk thread's error is raised below
        except BaseException:
            signals.stop()
            raise
        finally:
            loader.join()
            with translating("unmapping weights"):
                transport.abandon()
        if signals.error is not None:
            raise signals.error
        with translating("finishing the run"):
            self._device.compute.finish()
            end_ns = perf_counter_ns()
            self._device.transfer.finish()
            self._clock.calibrate()
            spans = recorder.spans(self._clock, end_ns)
        self.booking.book(number, (start_ns, end_ns), making.made_ns, spans)
        events = recorder.events(spans, start_ns)
        self._in_place.look()
        ports = {port.name: port for port in program.outputs}
        outputs = {name: to_port(lane.outputs[name], port) for name, port in ports.items()}
        return Pass(start_ns, end_ns, tuple(events), outputs)

    def make_ready(
        self, number: int, recorded: bool, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Does before a run what this run and those behind it gain from; in no run's time.

        Before the second one, for the first has better things to wait for: streamed weights are
        put where they are found in pinned memory, if there is any, outputs come to such from then
        on, and launches that will not change get their arguments. Before the third they are
        recorded, since a run whose launches are replayed tells no times of them.

        Args:
            number: of the run that comes next.
            recorded: whether launches are to be recorded.
            progress: called with the number of weights that are kept, and of all.

        Raises:
            As `KeptWeights.fill` and `Stretched.make_ready`.
        """
        if number == 1:
            if self._program.transport is Transport.COPY:
                self._kept.fill(progress)
            self._landings.pin()
            self._stretched.make_ready(self._later.stretches, self._objects)
        elif number == 2 and recorded:
            self._stretched.record()

    def detach(self, outputs: dict[str, np.ndarray]) -> None:
        """Makes the outputs of the last run outlast this engine."""
        self._landings.detach(outputs)

    def close(self) -> None:
        """Waits for the device and releases everything, after a failed run too."""
        for queue in (self._device.transfer, self._device.compute):
            with suppress(cl.Error):  # a lost device has nothing left to wait for
                queue.finish()
        self._in_place.stop_reading()
        self._stretched.release()
        self._launches.release()
        with suppress(cl.Error):
            self._objects.release_all()
        with suppress(cl.Error):
            self._kept.release()
        with suppress(cl.Error):
            self._landings.release()
        if self._ring is not None:
            with suppress(cl.Error):
                self._ring.release()
            self._ledger.release(Pool.STAGING, self._program.staging_bytes)
            self._ring = None

    def _blocks(self, arena: Arena) -> BlockObjects:
        """Objects of their own; activations in an arena, if the whole of it fits."""
        program, device = self._program, self._device
        whole = fits(arena, program)
        apart = not whole and device.host_memory
        return BlockObjects(
            device.context,
            program,
            self._ledger,
            host_visible=program.transport is Transport.MAP,
            written=program.transport is Transport.INLINE,
            cap_bytes=program.predicted_peak_bytes,
            arena=arena if whole else None,
            placed=device.placed,
            pages=arena_of(program, mmap.PAGESIZE) if apart else None,
            in_place=self._in_place,
            let_go=self._launches.let_go,
        )

    def _walk(
        self, memory: Iterable[MemoryCommand], lane: ComputeLane, making: Making, signals: Signals
    ) -> None:
        """Memory commands in their order; in between, as much of the compute lane as can go.

        Copies go on beside the host: those that can begin are handed over before it turns to
        layers, which it may compute itself. Elsewhere layers whose weights have come go first.
        """
        copies = self._program.transport is Transport.COPY
        for command, following in pairwise((*memory, None)):
            signals.check()
            if isinstance(command, Alloc):
                making.add(command)
                if not isinstance(following, Alloc):
                    if copies:
                        making.make_what_fits()
                    lane.advance()
            elif command is not None:
                for needed in command.after:
                    lane.advance_through(needed)
                used = [e for one in command.after if (e := lane.event(one)) is not None]
                making.end(command, used)
        lane.advance_to_end()

    def _transport(self, signals: Signals, *, first: bool) -> WeightTransport:
        program, transfer = self._program, self._device.transfer
        if program.transport is Transport.MAP or not program.staging_bytes:  # no weights, no ring
            mapped = MapTransport(program, file=self._file, objects=self._objects, queue=transfer)
            return InPlaceTransport(self._in_place, mapped)
        if self._ring is None:
            self._ring = self._make_ring()
        if isinstance(self._ring, SlotRing):
            return InlineTransport(
                program,
                first_run=first,
                file=self._file,
                queue=transfer,
                ring=self._ring,
                signals=signals,
            )
        return CopyTransport(
            program,
            file=self._file,
            objects=self._objects,
            queue=transfer,
            ring=self._ring,
            kept=self._kept,
        )

    def _make_ring(self) -> StagingRing | SlotRing:
        size, slot = self._program.staging_bytes, self._program.slot_bytes
        context, transfer = self._device.context, self._device.transfer

        def make() -> StagingRing | SlotRing:
            if self._program.transport is Transport.INLINE:
                return SlotRing(context, size, slot)
            return StagingRing(context, transfer, size, slot)

        with translating(f"creating the staging ring of {size} bytes"):
            return self._ledger.create(Pool.STAGING, size, "staging ring", make)
