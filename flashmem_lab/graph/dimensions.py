"""Gives every graph input a static shape, from the file and from what the user says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from flashmem_lab.errors import InputError, ModelError
from flashmem_lab.graph.model import TensorType
from flashmem_lab.graph.tensors import dtype_name

_LONGEST = 2**31 - 1  # kernels count elements in 32-bit integers

_Declared = tuple[int | str, ...]  # "" is a dimension without a usable name


def bind_inputs(
    inputs: Sequence[onnx.ValueInfoProto],
    dims: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, TensorType]:
    """Static types of the graph inputs.

    Args:
        inputs: the graph's inputs, weights left out.
        dims: value of each symbolic dimension, by the name that the model gives it.
        shapes: whole shapes, by input name.

    Raises:
        InputError: an unknown name, a contradiction, or dimensions without a value (all listed).
        ModelError: an input that is not a tensor.
    """
    declared = {value.name: _declared(value) for value in inputs}
    if len(declared) < len(inputs):
        raise ModelError("two graph inputs have the same name")
    _refuse_unknown("input", shapes, declared)
    named = {dim for shape in declared.values() for dim in shape or () if isinstance(dim, str)}
    _refuse_unknown("dimension", dims, named - {""})
    values = dict(dims)
    for name, extents in shapes.items():
        _bind_shape(name, declared[name], extents, values)
    for name, extent in values.items():
        if extent < 1:
            raise InputError(f"dimension {name!r} is {extent}; it must be at least 1")
        if extent > _LONGEST:
            raise InputError(f"dimension {name!r} is {extent}; it must be at most {_LONGEST}")
    types = {}
    unbound: dict[str, list[str]] = {}
    for value in inputs:
        shape = shapes.get(value.name) or _resolved(declared[value.name], values)
        if shape is None:
            unbound[value.name] = _describe(declared[value.name], values)
            continue
        dtype = dtype_name(value.type.tensor_type.elem_type, f"input {value.name!r}")
        types[value.name] = TensorType(dtype, tuple(shape))
    if unbound:
        raise _unbound_error(unbound, declared, values)
    return types


def _declared(value: onnx.ValueInfoProto) -> _Declared | None:
    """The shape in the file; None when even the rank is unknown."""
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(
            f"input {value.name!r} is not a tensor",
            hint="sequences, maps and optional values are not supported",
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    shape: list[int | str] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value > 0:
            shape.append(dim.dim_value)
        else:  # exporters write unknown extents as -1, 0, "?" or nothing
            shape.append("" if dim.dim_param == "?" else dim.dim_param)
    return tuple(shape)


def _refuse_unknown(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        names = ", ".join(map(repr, sorted(known)))
        raise InputError(
            f"the model has no {kind} named {', '.join(map(repr, unknown))}",
            hint=f"it has {names}" if names else f"it has no {kind} to give",
        )


def _bind_shape(
    name: str, declared: _Declared | None, given: tuple[int, ...], values: dict[str, int]
) -> None:
    """Checks a given shape against the declared one and binds the names in it."""
    if any(extent < 1 for extent in given):
        raise InputError(f"input {name!r}: {given} is not a shape; extents are at least 1")
    if any(extent > _LONGEST for extent in given):
        raise InputError(f"input {name!r}: extents of {given} must be at most {_LONGEST}")
    if declared is None:
        return
    if len(declared) != len(given):
        raise InputError(
            f"input {name!r} has {len(declared)} dimensions {_shown(declared)}, not {given}"
        )
    for want, extent in zip(declared, given, strict=True):
        known = values.setdefault(want, extent) if isinstance(want, str) and want else want
        if isinstance(known, int) and known != extent:
            named = f", where {want!r} is {known}" if isinstance(want, str) else ""
            raise InputError(
                f"input {name!r} has shape {_shown(declared)}{named}; {given} does not fit"
            )


def _resolved(declared: _Declared | None, values: Mapping[str, int]) -> tuple[int, ...] | None:
    """The declared shape with its names replaced; None when an extent stays unknown."""
    if declared is None:
        return None
    shape = [dim if isinstance(dim, int) else values.get(dim) for dim in declared]
    return None if None in shape else tuple(extent for extent in shape if extent is not None)


def _describe(declared: _Declared | None, values: Mapping[str, int]) -> list[str]:
    """What is missing of one input, in words."""
    if declared is None:
        return ["its rank"]
    return [
        repr(dim) if dim else f"dimension {axis}"
        for axis, dim in enumerate(declared)
        if isinstance(dim, str) and dim not in values
    ]


def _unbound_error(
    unbound: Mapping[str, list[str]],
    declared: Mapping[str, _Declared | None],
    values: Mapping[str, int],
) -> InputError:
    """One error that lists everything missing and the options that give it."""
    missing = "; ".join(
        f"input {name!r} {_shown(declared[name])}: {', '.join(what)}"
        for name, what in unbound.items()
    )
    options: list[str] = []
    for name in unbound:
        shape = declared[name]
        if shape is None:
            options.append(f"--input {name}=file.npy")
        elif "" in shape:
            known = [values.get(dim, "?") if isinstance(dim, str) else dim for dim in shape]
            text = "x".join(map(str, known))
            options.append(f"--shape {name}={text}")
        else:
            options += [f"--dim {dim}=N" for dim in shape if isinstance(dim, str)]
    hint = "give " + ", ".join(option for option in dict.fromkeys(options) if option)
    return InputError(f"the model leaves dimensions open: {missing}", hint=hint)


def _shown(declared: _Declared | None) -> str:
    if declared is None:
        return "(of unknown rank)"
    return "(" + ", ".join(str(dim) if dim else "?" for dim in declared) + ")"
