"""The error tree: every message says what is wrong and what the user can do next."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from flashmem_lab.units import format_bytes


class FlashMemError(Exception):
    """Base of everything the tool raises on purpose; the command line prints it and exits with 1.

    Args:
        message: what is wrong, with the names and figures the user knows.
        hint: what to do next; printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled with what it knows: the constructors of some take other arguments."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[FlashMemError], args: tuple[object, ...], known: dict[str, object]
) -> FlashMemError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(known)
    return error


class UsageError(FlashMemError):
    """What was asked for does not exist or does not fit together."""


class ModelError(FlashMemError):
    """The model file is damaged, unsafe or not a model."""


class UnsupportedOperators(ModelError):
    """The graph has operators that neither a kernel nor the host can run.

    Args:
        operators: each unknown operator as `domain::Name (nodes that use it)`.
    """

    def __init__(self, operators: list[str]) -> None:
        super().__init__(
            f"{len(operators)} operator(s) cannot be run: {', '.join(operators)}",
            hint=_hint(operators),
        )
        self.operators = operators


def _hint(operators: list[str]) -> str:
    """Control flow is standard, but must be settled before anything can be planned."""
    if any(name.split(" ")[0] in _CONTROL for name in operators):
        return (
            "If, Loop and Scan run only where their conditions and lengths are known when the "
            "model is opened: give input shapes, or export by tracing instead of scripting"
        )
    return "export the model with standard ONNX operators (opset 7 to 28)"


_CONTROL = {"ai.onnx::If", "ai.onnx::Loop", "ai.onnx::Scan"}


class InputError(FlashMemError):
    """An input has the wrong name, shape or type, or a symbolic dimension has no value."""


class BudgetTooSmall(FlashMemError):
    """No schedule fits the budget.

    Args:
        budget: bytes asked for.
        needed: least feasible budget, bytes.
        layer: name of the layer that sets it.
        weights: the heaviest weights that must be there when it runs, with their bytes.
        fixed: activations and staging at that layer, bytes.
        relaxations: demands to drop and the least budget without each, the cheapest first.
    """

    def __init__(
        self,
        *,
        budget: int,
        needed: int,
        layer: str,
        weights: Sequence[tuple[str, int]] = (),
        fixed: int = 0,
        relaxations: Sequence[tuple[str, int]] = (),
    ) -> None:
        held = [f"{name} {format_bytes(size)}" for name, size in weights]
        if fixed:
            held.append(f"activations and staging {format_bytes(fixed)}")
        ways = [f"drop {text}, then {least} is enough" for text, least in relaxations]
        super().__init__(
            f"a budget of {format_bytes(budget)} is too small: the least feasible one is "
            f"{format_bytes(needed)} ({needed} bytes), set by layer {layer!r}"
            + (f", which needs {', '.join(held)}" if held else ""),
            hint="; ".join([f"--budget min, or --budget {needed} or more", *ways]),
        )
        self.budget = budget
        self.needed = needed
        self.layer = layer
        self.weights = tuple(weights)
        self.relaxations = tuple(relaxations)


class PlanError(FlashMemError):
    """A plan breaks a rule, or was made for another model, device or precision."""


class DeviceError(FlashMemError):
    """A device is missing or refused a request; a vendor's error code is translated here."""


class OutOfBudget(DeviceError):
    """The allocator refused an object that would have broken the budget: a defect, never silent."""


class WorkerDied(DeviceError):
    """The child process of a run ended by itself: most often a driver that crashed.

    Args:
        how: its end, "killed by SIGSEGV".
        said: its last words, "" if there were none.
    """

    def __init__(self, how: str, said: str = "") -> None:
        super().__init__(
            f"the process that runs models on the device died ({how})"
            + (f": {said}" if said else ""),
            hint="nothing else was lost: run again, in a new process; `flashmem-lab doctor` says "
            "whether the device still works",
        )


class Cancelled(FlashMemError):
    """A run was stopped because somebody asked for it."""

    def __init__(self) -> None:
        super().__init__("stopped")


class CacheCorrupt(FlashMemError):
    """Packed weights on disk do not match their checksum.

    Args:
        file: the packed weight file.
        weight: name of the first weight that differs.
    """

    def __init__(self, file: Path, weight: str) -> None:
        super().__init__(
            f"packed weights of {weight!r} in {file} do not match their checksum",
            hint="delete the file and run again; it is made anew from the model",
        )
        self.file = file
        self.weight = weight


class BundleError(FlashMemError):
    """A bundle is damaged, of another version, or not a bundle."""


class DiskFull(FlashMemError):
    """The disk has no room for what had to be written; nothing half-written stays."""


def from_os_error(error: OSError, doing: str) -> FlashMemError:
    """Translates an operating system error met while `doing` something ("packing weights")."""
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk is full while {doing}{where}",
            hint="free some space, or use another disk (FLASHMEM_LAB_CACHE, for packed weights)",
        )
    return FlashMemError(f"{error.strerror or error} while {doing}{where}")
