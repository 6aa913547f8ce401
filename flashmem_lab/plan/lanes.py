"""A discrete-event engine for lanes of tasks: what a Program's commands are when simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """Something that occupies its lane for `duration_ns` once the tasks in `after` are done."""

    id: int
    duration_ns: float
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Contention:
    """While a task of lane `by` runs, those of the lanes `of` take 1 + `share` times as long."""

    by: Hashable
    of: tuple[Hashable, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Span:
    """When a task ran, ns from the start."""

    start_ns: float
    end_ns: float


def run_lanes(
    lanes: Mapping[Hashable, Sequence[Task]], contention: Contention | None = None
) -> dict[int, Span]:
    """Start and end of every task.

    Tasks of one lane run in their listed order, lanes run side by side; a task starts when the
    one before it in its lane and those in its `after` have ended. Deterministic.

    Args:
        lanes: tasks of each lane; ids are unique among all of them.
        contention: what one lane takes from others; nothing by default.

    Raises:
        ValueError: the lanes wait for one another for ever, or for a task that does not exist.
    """
    engine = _Engine(lanes, contention)
    engine.run()
    return engine.spans


@dataclass(slots=True)
class _Running:
    """A task at work: at `since_ns` it had `left_ns` to go, at a pace of its own."""

    task: Task
    start_ns: float
    since_ns: float
    left_ns: float
    pace: float = 1.0

    @property
    def end_ns(self) -> float:
        """When it ends, if nothing changes its pace."""
        return self.since_ns + self.left_ns / self.pace

    def go_on(self, now_ns: float, pace: float) -> None:
        """From now on at this pace."""
        if pace != self.pace:
            self.left_ns = max(0.0, self.left_ns - (now_ns - self.since_ns) * self.pace)
            self.since_ns, self.pace = now_ns, pace


class _Engine:
    """From one end of a task to the next; what an end makes possible starts at once."""

    def __init__(
        self, lanes: Mapping[Hashable, Sequence[Task]], contention: Contention | None
    ) -> None:
        self.spans: dict[int, Span] = {}
        self._contention = contention
        self._queues = {name: deque(tasks) for name, tasks in lanes.items()}
        self._running: dict[Hashable, _Running] = {}
        # How many tasks each one still waits for, and who waits for it.
        self._missing: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[Hashable, Task]]] = {}
        for name, tasks in lanes.items():
            for task in tasks:
                awaited = set(task.after)
                self._missing[task.id] = len(awaited)
                for other in awaited:
                    self._waiting.setdefault(other, []).append((name, task))

    def run(self) -> None:
        now_ns = 0.0
        self._begin(deque(self._queues), now_ns)
        while self._running:
            name = min(self._running, key=lambda lane: self._running[lane].end_ns)
            done = self._running.pop(name)
            now_ns = done.end_ns
            self._begin(self._end(name, done.task, done.start_ns, now_ns), now_ns)
        stuck = [queue[0].id for queue in self._queues.values() if queue]
        if stuck:
            raise ValueError(f"tasks {stuck} wait for one another, or for a task that is not there")

    def _begin(self, ready: deque[Hashable], now_ns: float) -> None:
        """Starts the next task of each ready lane that can, and whatever that makes ready."""
        while ready:
            name = ready.popleft()
            queue = self._queues[name]
            if name in self._running or not queue or self._missing[queue[0].id]:
                continue
            task = queue.popleft()
            if task.duration_ns > 0:
                self._running[name] = _Running(task, now_ns, now_ns, task.duration_ns)
            else:
                ready.extend(self._end(name, task, now_ns, now_ns))
        self._pace(now_ns)

    def _end(self, name: Hashable, task: Task, start_ns: float, now_ns: float) -> deque[Hashable]:
        """Books the task; returns the lanes that may go on."""
        self.spans[task.id] = Span(start_ns, now_ns)
        ready = deque([name])
        for lane, other in self._waiting.pop(task.id, ()):
            self._missing[other.id] -= 1
            if not self._missing[other.id] and self._queues[lane][0] is other:
                ready.append(lane)
        return ready

    def _pace(self, now_ns: float) -> None:
        contention = self._contention
        if contention is not None:
            slowed = 1 / (1 + contention.share) if contention.by in self._running else 1.0
            for name in contention.of:
                if name in self._running:
                    self._running[name].go_on(now_ns, slowed)
