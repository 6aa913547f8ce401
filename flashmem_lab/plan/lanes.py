"""A discrete-event engine for lanes of tasks: what a Program's commands are when simulated."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """Something that occupies its lane for `duration_ns` once the tasks in `after` are done."""

    id: int
    duration_ns: float
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """When a task ran, ns from the start."""

    start_ns: float
    end_ns: float


def run_lanes(lanes: Mapping[Hashable, Sequence[Task]]) -> dict[int, Span]:
    """Start and end of every task.

    Tasks of one lane run in their listed order, lanes run side by side; a task starts when the
    one before it in its lane and those in its `after` have ended. Deterministic.

    Raises:
        ValueError: the lanes wait for one another for ever, or for a task that does not exist.
    """
    spans: dict[int, Span] = {}
    waiting = [(list(tasks), 0, 0.0) for tasks in lanes.values() if tasks]
    while waiting:
        held: list[tuple[list[Task], int, float]] = []
        progress = False
        for tasks, position, free in waiting:
            begun = position
            while position < len(tasks):
                task = tasks[position]
                start = free
                try:
                    for other in task.after:
                        start = max(start, spans[other].end_ns)
                except KeyError:
                    break
                free = start + task.duration_ns
                spans[task.id] = Span(start, free)
                position += 1
            progress = progress or position > begun
            if position < len(tasks):
                held.append((tasks, position, free))
        if not progress:
            stuck = [tasks[position].id for tasks, position, _ in held]
            raise ValueError(f"tasks {stuck} wait for one another, or for a task that is not there")
        waiting = held
    return spans
