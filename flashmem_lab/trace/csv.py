"""One tidy table of a trace: events and memory samples, a row each."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from flashmem_lab.trace.runs import split_runs
from flashmem_lab.trace.trace import Trace
from flashmem_lab.trace.write import write_file

COLUMNS = (
    "record",  # "event" or "memory"
    "run",
    "track",  # lane of an event, pool of a memory sample
    "kind",
    "name",
    "layer",
    "weight",
    "start_ns",  # on one clock for all runs
    "end_ns",  # empty for a memory sample: it holds until the next one of its pool
    "bytes",
)


def write_csv(trace: Trace, path: Path) -> None:
    """Writes events and memory samples of all runs as one CSV table with a header.

    Raises:
        FlashMemError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for run in split_runs(trace.timeline):
        for e in run.events:
            times = (run.begin_ns + e.start_ns, run.begin_ns + e.end_ns)
            what = (e.lane.value, e.kind, e.name, e.layer, e.weight)
            writer.writerow(("event", run.index, *what, *times, e.bytes))
        for s in run.samples:
            begin = run.begin_ns + s.time_ns
            writer.writerow(
                ("memory", run.index, s.pool.value, "held", "", "", "", begin, "", s.bytes)
            )
    write_file(path, text.getvalue(), "writing the trace")
