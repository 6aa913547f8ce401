"""The part of the program check that looks at chunks which kernels move themselves (`inline`)."""

from __future__ import annotations

from collections import Counter

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.program.check_objects import refuse, touched
from flashmem_lab.program.program import Launch, Move, Program, Upload


def carriers_of(program: Program) -> dict[int, int]:
    """The compute command that moves each upload, by ids; empty where uploads move themselves."""
    return {
        upload: command.id
        for command in program.compute
        if isinstance(command, Launch | Move)
        for upload in command.carries
    }


def check_carries(program: Program) -> None:
    """Each chunk is moved once, in the order of the reads, after its own and before its use.

    The order of the reads is that of the slots: a command that moved a chunk out of turn would
    wait for a slot that only a later command empties.
    """
    if program.transport is not Transport.INLINE:
        if carriers_of(program):
            refuse("its kernels carry weights, which are moved another way")
        return
    uploads = {upload.id: upload for upload in program.transfer}
    missing = Counter(upload.weight for upload in program.transfer)
    carried: list[int] = []
    for command in program.compute:
        for weight in touched(command):
            if missing[weight]:
                refuse(f"{command.name!r} uses {weight!r} before all of it was moved")
        if isinstance(command, Launch | Move):
            _check_command(command, uploads)
            carried += sorted(command.carries)
            missing.subtract(uploads[upload].weight for upload in command.carries)
    if carried != [upload.id for upload in program.transfer]:
        refuse("its kernels do not carry every chunk once, in the order of the reads")


def _check_command(command: Launch | Move, uploads: dict[int, Upload]) -> None:
    name, carries = command.name, command.carries
    if not uploads.keys() >= set(carries):
        refuse(f"{name!r} carries what is not uploaded")
    if len(carries) > CARRIED:
        refuse(f"{name!r} carries more than {CARRIED} chunks")
    if not set(carries) <= set(command.after):
        refuse(f"{name!r} carries a chunk without waiting for it")
    if not {uploads[upload].weight for upload in carries}.isdisjoint(touched(command)):
        refuse(f"{name!r} carries a weight that it uses")
    if isinstance(command, Move):
        if len(carries) != 1:
            refuse(f"the move of {name!r} is not that of one chunk")
        if command.once != uploads[carries[0]].once:
            refuse(f"the move of {name!r} does not happen whenever its chunk is read")
