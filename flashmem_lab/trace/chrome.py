"""Chrome's JSON trace format, for chrome://tracing, Speedscope and older viewers.

The format is Google's "Trace Event Format" document: times in microseconds, "X" complete events,
"C" counters and "M" metadata that names processes and threads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashmem_lab.plan.timeline import Lane
from flashmem_lab.trace.runs import DEVICE_POOLS, Run, host_curve, memory_curve, split_runs
from flashmem_lab.trace.trace import Trace
from flashmem_lab.trace.write import write_file

_PROCESS = 1
_THREADS = {Lane.DISK: 1, Lane.TRANSFER: 2, Lane.COMPUTE: 3}


def write_chrome(trace: Trace, path: Path) -> None:
    """Writes `trace` as Chrome JSON: a thread for each lane, counters for device and host memory.

    Raises:
        FlashMemError: the file cannot be written.
    """
    records = [_name("process_name", 0, f"{trace.model} on {trace.device} ({trace.origin})")]
    records += [_name("thread_name", thread, lane.value) for lane, thread in _THREADS.items()]
    for run in split_runs(trace.timeline):
        records += _slices(run) + _counters(run)
    facts = {
        "model": trace.model,
        "device": trace.device,
        "origin": trace.origin,
        "strategy": trace.strategy,
        "precision": trace.precision,
        "budget_bytes": str(trace.budget_bytes),
        **trace.notes,
    }
    document = {"traceEvents": records, "displayTimeUnit": "ms", "otherData": facts}
    write_file(path, json.dumps(document, separators=(",", ":")), "writing the trace")


def _name(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": _PROCESS, "tid": thread, "name": kind, "args": {"name": name}}


def _slices(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "ph": "X",
            "pid": _PROCESS,
            "tid": _THREADS[event.lane],
            "name": event.name,
            "cat": event.kind,
            "ts": (run.begin_ns + event.start_ns) / 1000,
            "dur": (event.end_ns - event.start_ns) / 1000,
            "args": {
                "layer": event.layer,
                "weight": event.weight,
                "bytes": event.bytes,
                "run": event.run,
            },
        }
        for event in run.events
    ]


def _counters(run: Run) -> list[dict[str, Any]]:
    curve = memory_curve(run)
    moments = [(run.begin_ns + int(time)) / 1000 for time in curve.time_ns]
    device = [
        {
            "ph": "C",
            "pid": _PROCESS,
            "name": "device memory (bytes)",
            "ts": moment,
            "args": {pool.value: int(curve.pools[pool][row]) for pool in DEVICE_POOLS},
        }
        for row, moment in enumerate(moments)
    ]
    host = [
        {
            "ph": "C",
            "pid": _PROCESS,
            "name": "host resident set (bytes)",
            "ts": (run.begin_ns + int(time)) / 1000,
            "args": {"host": int(held)},
        }
        for time, held in zip(*host_curve(run), strict=True)
    ]
    return device + host
