"""User arrays at a model's ports: checking what comes in, shaping what goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flashmem_lab.errors import InputError
from flashmem_lab.lower.layer import Port
from flashmem_lab.program.sources import dtype_of


def check_inputs(ports: Sequence[Port], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The user's arrays in the ports' dtypes.

    An integer (or float) of fewer bits is widened; anything that could lose a value is refused.

    Raises:
        InputError: one is missing, unknown, or of the wrong dtype or shape; names what is wanted.
    """
    wanted = ", ".join(f"{port.name} {port.dtype}{list(port.shape)}" for port in ports)
    unknown = sorted(set(inputs) - {port.name for port in ports})
    if unknown:
        raise InputError(f"the model has no input {unknown[0]!r}", hint=f"it takes {wanted}")
    arrays: dict[str, np.ndarray] = {}
    for port in ports:
        if port.name not in inputs:
            raise InputError(f"input {port.name!r} is missing", hint=f"the model takes {wanted}")
        given, dtype = np.asarray(inputs[port.name]), dtype_of(port.dtype)
        if given.shape != port.shape:
            raise InputError(
                f"input {port.name!r} has shape {list(given.shape)}, not {list(port.shape)}",
                hint=f"the model takes {wanted}; other sizes need a plan of their own (--dim)",
            )
        widens = given.dtype.kind == dtype.kind and np.can_cast(given.dtype, dtype, "safe")
        if given.dtype != dtype and not widens:
            raise InputError(
                f"input {port.name!r} has dtype {given.dtype}, not {port.dtype}",
                hint=f"convert it yourself: array.astype('{port.dtype}')",
            )
        arrays[port.name] = given.astype(dtype, copy=False)
    return arrays


def to_port(array: np.ndarray, port: Port) -> np.ndarray:
    """What was read from the device, as the user's dtype and shape; copied only if it must be."""
    with np.errstate(over="ignore"):  # a float16 output may overflow, as it would in the model
        return np.ascontiguousarray(array, dtype_of(port.dtype)).reshape(port.shape)
