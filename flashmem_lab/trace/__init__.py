"""Traces: statistics, pictures and exports of what happened in a run, simulated or measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.lazy import lazily

if TYPE_CHECKING:
    from flashmem_lab.trace.chrome import write_chrome
    from flashmem_lab.trace.codec import load_trace, save_trace, trace_from_json, trace_to_json
    from flashmem_lab.trace.csv import write_csv
    from flashmem_lab.trace.figures import memory_figure, schedule_figure
    from flashmem_lab.trace.perfetto import write_perfetto
    from flashmem_lab.trace.profile import LayerShare, Profile, RunShares, profile_of
    from flashmem_lab.trace.report import Picture, ReportSection, RunRow, Tile, write_html
    from flashmem_lab.trace.statistics import RunStatistics, Statistics
    from flashmem_lab.trace.summary import GraphSummary, LayerLine, summarize
    from flashmem_lab.trace.trace import Trace

__all__ = [
    "GraphSummary",
    "LayerLine",
    "LayerShare",
    "Picture",
    "Profile",
    "ReportSection",
    "RunRow",
    "RunShares",
    "RunStatistics",
    "Statistics",
    "Tile",
    "Trace",
    "load_trace",
    "memory_figure",
    "profile_of",
    "save_trace",
    "schedule_figure",
    "summarize",
    "trace_from_json",
    "trace_to_json",
    "write_chrome",
    "write_csv",
    "write_html",
    "write_perfetto",
]

__getattr__ = lazily(
    __name__,
    {
        "chrome": ["write_chrome"],
        "codec": ["load_trace", "save_trace", "trace_from_json", "trace_to_json"],
        "csv": ["write_csv"],
        "figures": ["memory_figure", "schedule_figure"],
        "perfetto": ["write_perfetto"],
        "profile": ["LayerShare", "Profile", "RunShares", "profile_of"],
        "report": ["Picture", "ReportSection", "RunRow", "Tile", "write_html"],
        "statistics": ["RunStatistics", "Statistics"],
        "summary": ["GraphSummary", "LayerLine", "summarize"],
        "trace": ["Trace"],
    },
)
