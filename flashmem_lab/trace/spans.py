"""Moments covered by events, as disjoint spans in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flashmem_lab.plan.timeline import Event

Spans = list[tuple[int, int]]


def union(events: Iterable[Event]) -> Spans:
    """The moments of any of `events`."""
    return merge((event.start_ns, event.end_ns) for event in events)


def merge(spans: Iterable[tuple[int, int]]) -> Spans:
    """The same moments as disjoint spans in order."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def length(spans: Iterable[tuple[int, int]]) -> int:
    """How long disjoint spans are together."""
    return sum(end - start for start, end in spans)


def within(spans: Sequence[tuple[int, int]], low: int, high: int) -> int:
    """How much of low .. high disjoint spans cover."""
    return sum(max(0, min(end, high) - max(start, low)) for start, end in spans)
