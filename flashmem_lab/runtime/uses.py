"""Which layer a weight is moved for: what events of reads and uploads are labelled with."""

from __future__ import annotations

from flashmem_lab.program.program import Program


def first_uses(program: Program) -> dict[str, int]:
    """The first layer that waits for each weight, by weight name."""
    weight_of = {upload.id: upload.weight for upload in program.transfer}
    uses: dict[str, int] = {}
    for command in program.compute:
        for awaited in command.after:
            if awaited in weight_of:
                uses.setdefault(weight_of[awaited], command.layer)
    return uses
