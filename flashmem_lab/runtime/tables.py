"""What every run looks up in its program, computed once: a run on a fast GPU takes milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import made_with, weights_as_made
from flashmem_lab.runtime.uses import first_uses


@dataclass(frozen=True, slots=True)
class Tables:
    """Look-ups of one program.

    Attributes:
        weight_of: weight that an upload moves, by its id.
        after: what each command of the compute lane waits for, by its id.
        first_use: layer that a weight is moved for.
        made_at: place of each weight in the order in which they are made.
        made_with: how many are made once a weight can be read.
        activations: bytes of each activation, in the order in which they are made.
    """

    weight_of: Mapping[int, str]
    after: Mapping[int, tuple[int, ...]]
    first_use: Mapping[str, int]
    made_at: Mapping[str, int]
    made_with: Mapping[str, int]
    activations: tuple[int, ...]

    @classmethod
    def of(cls, program: Program) -> Tables:
        """Those of `program`."""
        return cls(
            weight_of={upload.id: upload.weight for upload in program.transfer},
            after={command.id: command.after for command in program.compute},
            first_use=first_uses(program),
            made_at={name: at for at, name in enumerate(weights_as_made(program))},
            made_with=made_with(program),
            activations=tuple(
                program.objects[command.object].bytes
                for command in program.memory
                if isinstance(command, Alloc)
                and program.objects[command.object].pool is Pool.BUFFER
            ),
        )
