"""What is left to do in runs behind the first one, and which of it is the same in each.

Weights that are pinned are there, and where activations have lasting places (`arena.py`) nothing is
made or freed for them. Some streamed weights come to the same memory in every run. A launch that
uses nothing else is the same in every later run, down to the last argument, so launches of that
kind that follow each other can be made ready together: a stretch, which begins anew where one of
them waits for a weight. A launch whose memory changes, or that another lane waits for, stays by
itself, as do host steps, inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from itertools import chain

from flashmem_lab.program.program import (
    ComputeCommand,
    Free,
    Launch,
    MemoryCommand,
    Program,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Two or more consecutive launches with the same arguments in every later run.

    Attributes:
        launches: in order.
        after: uploads of the run that the first one waits for; the others wait for none.
        ending: places of the launches behind which a streamed weight ends.
    """

    launches: tuple[Launch, ...]
    after: tuple[int, ...] = ()
    ending: tuple[int, ...] = ()

    @property
    def id(self) -> int:
        """That of its first launch."""
        return self.launches[0].id

    @property
    def lasting(self) -> bool:
        """Whether it waits for no weight and none ends behind it."""
        return not (self.after or self.ending)

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
    def of(
        cls, program: Program, lasting: Container[str], fixed: Container[str] = frozenset()
    ) -> LaterRuns:
        """Those of `program`.

        Args:
            program: sound.
            lasting: names of the activations that keep their places from run to run; those of
                other objects that stay are known from the program.
            fixed: names of the streamed weights that come to the same memory in every run.
        """
        lanes = chain(program.memory, program.disk, program.transfer, program.compute)
        once = {command.id for command in lanes if getattr(command, "once", False)}
        memory = [c for c in program.memory if c.id not in once and c.object not in lasting]
        kept = [c for c in program.memory if c.id in once or c.object in lasting]
        done = frozenset(once | {command.id for command in kept})
        stay = {command.object for command in kept}
        left = [c for c in program.compute if c.id not in done]
        ends = {at for c in memory if isinstance(c, Free) for at in c.after}
        others = chain(program.disk, program.transfer, left)
        awaited = set(chain.from_iterable(command.after for command in others))

        def same(command: ComputeCommand) -> bool:
            return (
                isinstance(command, Launch)
                and not command.carries
                and command.id not in awaited
                and all(
                    arg.value in stay or arg.value in fixed
                    for arg in command.args
                    if arg.kind == "object"
                )
            )

        steps: list[Step] = []
        together: list[Launch] = []

        def close() -> None:
            if len(together) > 1:
                after = tuple(one for one in together[0].after if one not in done)
                ending = tuple(at for at, one in enumerate(together) if one.id in ends)
                steps.append(Stretch(tuple(together), after, ending))
            else:
                steps.extend(together)
            together.clear()

        for command in left:
            if not same(command):
                close()
                steps.append(command)
                continue
            assert isinstance(command, Launch), "`same` is True of launches alone"
            if not done.issuperset(command.after):
                close()
            together.append(command)
        close()
        return cls(tuple(steps), tuple(memory), done)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Those of its steps, in order."""
        return tuple(step for step in self.steps if isinstance(step, Stretch))
