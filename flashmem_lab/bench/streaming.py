"""What streaming costs: warm runs within a budget, and planned for that, beside resident ones.

With the file in the page cache, or in pinned host memory on NVIDIA GPUs, the peer is the resident
run; with its pages dropped behind each read it is the slower of computing alone and reading alone,
and the plan is one for a device that reads as fast as that disk. All take turns in one process, and
the best of each counts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from flashmem_lab import workflow
from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser, budget
from flashmem_lab.bench.runs import zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.cli.parser import STORAGES
from flashmem_lab.device import DeviceSpec, Quantity
from flashmem_lab.devices import open_device
from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.plan import Objective
from flashmem_lab.program.container import align
from flashmem_lab.program.program import Read
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.hostmemory import HostMemory
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.runtime.pagecache import PageCache
from flashmem_lab.runtime.weightfile import WeightFiles
from flashmem_lab.samples import sample_inputs
from flashmem_lab.trace import RunShares, profile_of
from flashmem_lab.units import Budget

MODELS = ("resnet50", "vit", "gptneo-small", "depth-anything-small")
PASSES = 3  # warm runs of each contestant in its turn


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: name in the zoo.
        budget: as the command line takes it.
        streamed_bytes: read in every run, the file in the page cache.
        dropped_bytes: read in every run, pages dropped.
        resident_ms: best warm run with every weight on the device; computing alone.
        cached_ms: best warm run within the budget, the file in the page cache.
        disk_ms: best time of reading those bytes alone, pages dropped, in the faster of two ways.
        dropped_ms: best warm run within the budget, pages dropped.
        cached, dropped: where the time of these two went.
    """

    model: str
    budget: str
    streamed_bytes: int
    dropped_bytes: int
    resident_ms: float
    cached_ms: float
    disk_ms: float
    dropped_ms: float
    cached: RunShares
    dropped: RunShares

    @property
    def cached_ratio(self) -> float:
        """Time from the page cache over the resident time."""
        return self.cached_ms / self.resident_ms

    @property
    def dropped_ratio(self) -> float:
        """Time from the disk over the slower of computing alone and reading alone."""
        return self.dropped_ms / max(self.resident_ms, self.disk_ms)


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A program and how its pages are treated."""

    made: workflow.Compiled
    pages: PageCache


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("streaming", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument("--budget", type=budget, default="30%", help="of the streamed runs; 30%%")
    parser.add_argument(
        "--storage", choices=STORAGES, default="auto", help="of the weights; as `run`"
    )
    parser.add_argument(
        "--rounds", type=values.count, default=3, help="turns of each contestant; 3"
    )
    options = parser.parse_args(arguments)
    if not hasattr(os, "posix_fadvise"):
        raise FlashMemError("this system cannot drop pages", hint="run the bench on Linux")
    facts = machine(("pyopencl", "numpy"))
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, packed):
            rows.append(_measure(name, path, packed, options))
    if options.json:
        print_json(
            {
                "schema": "flashmem-lab/bench-streaming/2",
                "machine": facts,
                "models": [_plain(row) for row in rows],
            }
        )
    else:
        print_table([_cells(row) for row in rows], columns=COLUMNS)
        print(sentence(facts))
    return 0


COLUMNS = (
    "Model",
    "Streamed",
    "Resident",
    "Cached",
    "Ratio",
    "Read",
    "Disk",
    "Dropped",
    "Ratio",
    "Went to",
)


def _plain(row: Row) -> dict[str, Any]:
    ratios = {"cached_ratio": row.cached_ratio, "dropped_ratio": row.dropped_ratio}
    return {**asdict(row), **ratios}


def _cells(row: Row) -> list[str]:
    times = (row.resident_ms, row.cached_ms, row.disk_ms, row.dropped_ms)
    resident, cached, disk, dropped = (f"{ms:.0f} ms" for ms in times)
    shares = asdict(row.cached)
    parts = ("layers", "launching", "handing", "transfer", "disk", "stall", "host")
    went = ", ".join(f"{part} {shares[f'{part}_ms'] / row.cached.wall_ms:.0%}" for part in parts)
    return [
        row.model,
        f"{row.streamed_bytes / 1e6:.0f} MB",
        resident,
        cached,
        f"{row.cached_ratio:.2f}",
        f"{row.dropped_bytes / 1e6:.0f} MB",
        disk,
        dropped,
        f"{row.dropped_ratio:.2f}",
        went,
    ]


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    spec = open_device(options.device)
    storage = None if options.storage == "auto" else Storage(options.storage)
    prepared = workflow.load(
        path, device=spec, precision=Precision(options.precision), storage=storage
    )
    plans = [
        workflow.make_plan(prepared, budget=Budget.parse(budget), optimize=Objective.WARM)
        for budget in ("100%", options.budget)
    ]
    resident, cached = (workflow.compile_plan(prepared, plan, cache=cache) for plan in plans)
    inputs = sample_inputs(resident.program)
    contestants = {
        "resident": _Contestant(resident, PageCache.KEEP),
        "cached": _Contestant(cached, PageCache.KEEP),
    }
    best = {label: _best_run(one, spec, inputs) for label, one in contestants.items()}
    # Only what reads and layers take of each other's time matters to a plan.
    pace = best["resident"].wall_ms / plans[0].predicted.warm_ms
    bytes_, took_ms = _disk_alone(resident, streamed=False)
    reading = replace(
        spec,
        disk=Quantity(bytes_ / took_ms * 1e3 * pace, "the packed file, pages dropped"),
        contention=Quantity(0.0, "the disk writes to memory by itself"),
    )
    of_disk = replace(prepared, device=reading)
    plan = workflow.make_plan(of_disk, budget=Budget.parse(options.budget), optimize=Objective.WARM)
    dropped = workflow.compile_plan(of_disk, plan, cache=cache)
    contestants["dropped"] = _Contestant(dropped, PageCache.DROP)
    dropped_bytes, disk_ms = _disk_alone(dropped)
    for _ in range(options.rounds):
        for label, one in contestants.items():
            shares = _best_run(one, spec, inputs)
            if label not in best or shares.wall_ms < best[label].wall_ms:
                best[label] = shares
        disk_ms = min(disk_ms, _disk_alone(dropped)[1])
    return Row(
        model=name,
        budget=options.budget,
        streamed_bytes=_streamed_bytes(cached),
        dropped_bytes=dropped_bytes,
        resident_ms=best["resident"].wall_ms,
        cached_ms=best["cached"].wall_ms,
        disk_ms=disk_ms,
        dropped_ms=best["dropped"].wall_ms,
        cached=best["cached"],
        dropped=best["dropped"],
    )


def _best_run(one: _Contestant, spec: DeviceSpec, inputs: Mapping[str, np.ndarray]) -> RunShares:
    """The shortest warm run of a turn."""
    program, packed = one.made.program, one.made.packed
    if one.pages is PageCache.DROP:
        _drop(packed.path)
    with closing(workflow.open_runtime(spec, one.pages, Launching.SINGLE)) as runtime:
        result: RunResult = runtime.run(program, packed.path, inputs, repeat=PASSES + 1)
    walls_ms = (result.first_run_ms, *result.warm_ms)
    profile = profile_of(result.trace, walls_ms, program.costs, spec)
    return next(run for run in profile.runs if run.run == profile.detailed)


def _streamed_bytes(made: workflow.Compiled) -> int:
    return sum(read.bytes for read in made.program.disk if not read.once)


def _disk_alone(made: workflow.Compiled, *, streamed: bool = True) -> tuple[int, float]:
    """Reads what a warm run streams, or all weights, in order, from the disk.

    By chunks, and weight by weight past the page cache as runs do where weights are used in place.
    The faster way counts: where pinned weights lie in between, the system reads them too ahead of
    chunks.

    Returns:
        Bytes, and ms.
    """
    reads = [read for read in made.program.disk if not (streamed and read.once)]
    size = sum(read.bytes for read in reads)
    return size, min(_by_chunks_ms(made, reads), _past_cache_ms(made, reads)) if reads else 0.0


def _by_chunks_ms(made: workflow.Compiled, reads: Sequence[Read]) -> float:
    program, path = made.program, made.packed.path
    into = bytearray(max(read.bytes for read in reads))
    _drop(path)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        began = perf_counter()
        for read in reads:
            span = program.spans[read.weight]
            view = memoryview(into)[: read.bytes]
            os.preadv(file.fileno(), [view], span.offset + read.first_row * span.row_bytes)
        return (perf_counter() - began) * 1e3


def _past_cache_ms(made: workflow.Compiled, reads: Sequence[Read]) -> float:
    spans, path = made.program.spans, made.packed.path
    weights = list(dict.fromkeys(read.weight for read in reads))
    memory = HostMemory(align(max(spans[name].bytes for name in weights)))
    memory.in_large_pages(0, len(memory.bytes))
    _drop(path)
    with closing(WeightFiles([path], spans, PageCache.DROP)) as files:
        took_ms = []
        for _ in range(2):  # sums are compared and pages touched in the first
            began = perf_counter()
            for name in weights:
                files.read_whole([name], [memory.bytes[: align(spans[name].bytes)]])
            took_ms.append((perf_counter() - began) * 1e3)
    return min(took_ms)


def _drop(path: Path) -> None:
    """Drops the pages of a file that is on the disk already."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
