"""What is left to do in runs behind the first one, and which of it is the same in each.

Weights that are pinned are there, and where activations have lasting places (`arena.py`) nothing is
made or freed for them. A launch that uses nothing else is the same in every later run, down to the
last argument, so launches of that kind that follow each other can be made ready together: a
stretch. A launch that uses a streamed weight, waits for another lane or is waited for by one
stays by itself, as do host steps, inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from itertools import chain

from flashmem_lab.program.program import (
    Alloc,
    ComputeCommand,
    Launch,
    MemoryCommand,
    Program,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Two or more consecutive launches with the same arguments in every later run."""

    launches: tuple[Launch, ...]

    @property
    def id(self) -> int:
        """That of its first launch, which no command outside waits for."""
        return self.launches[0].id

    @property
    def after(self) -> tuple[int, ...]:
        """Nothing that a later run does."""
        return ()

    @property
    def layer(self) -> int:
        """The last one."""
        return self.launches[-1].layer

    @property
    def name(self) -> str:
        """Its first and its last layer, and how many launches it has."""
        first, last = self.launches[0].name, self.launches[-1].name
        return f"{first} .. {last} ({len(self.launches)} launches)"


Step = ComputeCommand | Stretch


@dataclass(frozen=True, slots=True)
class LaterRuns:
    """What each run behind the first one does.

    Attributes:
        steps: of the compute lane.
        memory: the memory order, without what lasts.
        done: ids of commands that need not be done again.
    """

    steps: tuple[Step, ...]
    memory: tuple[MemoryCommand, ...]
    done: frozenset[int]

    @classmethod
    def of(cls, program: Program, lasting: Container[str]) -> LaterRuns:
        """Those of `program`.

        Args:
            program: sound.
            lasting: names of the activations that keep their places from run to run; those of
                other objects that stay are known from the program.
        """
        lanes = chain(program.memory, program.disk, program.transfer, program.compute)
        once = {command.id for command in lanes if getattr(command, "once", False)}
        memory = [c for c in program.memory if c.id not in once and c.object not in lasting]
        kept = [c for c in program.memory if c.id in once or c.object in lasting]
        done = frozenset(once | {command.id for command in kept})
        stay = {command.object for command in kept}
        left = [c for c in program.compute if c.id not in done]
        frees = [c for c in memory if not isinstance(c, Alloc)]
        awaited = set(
            chain.from_iterable(c.after for c in chain(frees, program.disk, program.transfer, left))
        )

        def same(command: ComputeCommand) -> bool:
            return (
                isinstance(command, Launch)
                and not command.carries
                and command.id not in awaited
                and done.issuperset(command.after)
                and all(arg.value in stay for arg in command.args if arg.kind == "object")
            )

        steps: list[Step] = []
        together: list[Launch] = []
        for command in (*left, None):
            if command is not None and same(command):
                assert isinstance(command, Launch), "`same` is True of launches alone"
                together.append(command)
                continue
            steps += [Stretch(tuple(together))] if len(together) > 1 else together
            together = []
            if command is not None:
                steps.append(command)
        return cls(tuple(steps), tuple(memory), done)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Those of its steps, in order."""
        return tuple(step for step in self.steps if isinstance(step, Stretch))
