"""Element-wise operators: each becomes a small Body; fusion joins the bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from flashmem_lab.graph.model import Node
from flashmem_lab.lower.body import CTYPES, Body, Statement, literal
from flashmem_lab.lower.context import Context, handles, integer, number, text
from flashmem_lab.lower.fuse import MAX_OPERANDS
from flashmem_lab.lower.ir import Ref, WeightExpr

FLOAT = "float32"


@dataclass
class Writer:
    """Builds a Body statement by statement; values are ids, as in Body."""

    ctx: Context
    operands: list[Ref] = field(default_factory=list)
    _pending: list[tuple[str, str, tuple[int | str, ...]]] = field(default_factory=list)

    def operand(self, name: str) -> str:
        """A handle on an ONNX value: a literal for a known scalar, else an operand."""
        known = self.ctx.values.get(name)
        if isinstance(known, np.ndarray) and known.size == 1:
            dtype = self.ctx.device_dtype(self.ctx.type_of(name))
            return self.emit(dtype, literal(known.reshape(()).item(), dtype))
        self.operands.append(self.ctx.device(name))
        return f"x{len(self.operands) - 1}"

    def emit(self, dtype: str, code: str, *args: str) -> str:
        """A statement; returns its handle."""
        self._pending.append((dtype, code, args))
        return f"t{len(self._pending) - 1}"

    def dtype(self, handle: str) -> str:
        """Element type behind a handle."""
        if handle[0] == "x":
            return self.operands[int(handle[1:])].dtype
        return self._pending[int(handle[1:])][0]

    def body(self, result: str) -> Body:
        """The finished body."""
        base = len(self.operands)

        def number_of(handle: int | str) -> int:
            text_ = str(handle)
            return int(text_[1:]) + (base if text_[0] == "t" else 0)

        statements = tuple(
            Statement(dtype, code, tuple(map(number_of, args)))
            for dtype, code, args in self._pending
        )
        return Body(tuple(r.dtype for r in self.operands), statements, number_of(result))


def _finish(ctx: Context, node: Node, w: Writer, result: str) -> bool:
    """Adds the map; a result narrower than what holds it wraps around as its own type would."""
    wrap = _WRAPS.get(ctx.type_of(node.outputs[0]).dtype)
    if wrap:
        result = w.emit(w.dtype(result), f"({wrap}){{0}}", result)
    alone = w.operands[0] if len(w.operands) == 1 else None  # keeps its order: that needs no copy
    ctx.map([node.name], ctx.output(node, like=alone), w.operands, w.body(result))
    return True


# OpenCL's integers have the same widths on every device.
_WRAPS = {"int8": "char", "int16": "short", "uint8": "uchar", "uint16": "ushort", "uint32": "uint"}


# Float functions of one value. erf, tanh and exp are OpenCL's own, within 4 to 16 ulp.
_UNARY = {
    "Sigmoid": "1.0f / (1.0f + exp(-{0}))",
    "Tanh": "tanh({0})",
    "Erf": "erf({0})",
    "Exp": "exp({0})",
    "Log": "log({0})",
    "Sqrt": "sqrt({0})",
    "Reciprocal": "1.0f / {0}",
    "Floor": "floor({0})",
    "Ceil": "ceil({0})",
    "Round": "rint({0})",
    "Sin": "sin({0})",
    "Cos": "cos({0})",
    "Tan": "tan({0})",
    "Asin": "asin({0})",
    "Acos": "acos({0})",
    "Atan": "atan({0})",
    "Sinh": "sinh({0})",
    "Cosh": "cosh({0})",
    "Asinh": "asinh({0})",
    "Acosh": "acosh({0})",
    "Atanh": "atanh({0})",
    "Softsign": "{0} / (1.0f + fabs({0}))",
    "Softplus": "fmax({0}, 0.0f) + log1p(exp(-fabs({0})))",
    "HardSwish": "{0} * fmin(fmax({0} * (1.0f / 6.0f) + 0.5f, 0.0f), 1.0f)",
    "Mish": "{0} * tanh(fmax({0}, 0.0f) + log1p(exp(-fabs({0}))))",
}


@handles(*_UNARY)
def unary(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    x = w.operand(node.inputs[0])
    if w.dtype(x) != FLOAT:
        return False
    return _finish(ctx, node, w, w.emit(FLOAT, _UNARY[node.op_type], x))


@handles("Relu", narrow=True)
def relu(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    x = w.operand(node.inputs[0])
    zero = literal(0, w.dtype(x))
    # A comparison keeps NaN, as ONNX does; fmax would drop it.
    return _finish(ctx, node, w, w.emit(w.dtype(x), f"{{0}} < {zero} ? {zero} : {{0}}", x))


def _with_parameters(formula: str, **defaults: float) -> Callable[[Context, Node], bool]:
    """A float function of one value and of attributes, written as {name} in the formula."""

    def handler(ctx: Context, node: Node) -> bool:
        w = Writer(ctx)
        x = w.operand(node.inputs[0])
        values = {k: literal(number(node, k, v), FLOAT) for k, v in defaults.items()}
        return _finish(ctx, node, w, w.emit(FLOAT, formula.format("{0}", **values), x))

    return handler


handles("LeakyRelu")(_with_parameters("{0} < 0.0f ? {alpha} * {0} : {0}", alpha=0.01))
handles("Elu")(_with_parameters("{0} < 0.0f ? {alpha} * expm1({0}) : {0}", alpha=1.0))
handles("Celu")(_with_parameters("{0} < 0.0f ? {alpha} * expm1({0} / {alpha}) : {0}", alpha=1.0))
handles("Selu")(
    _with_parameters(
        "{gamma} * ({0} <= 0.0f ? {alpha} * expm1({0}) : {0})",
        alpha=1.67326319217681884765625,
        gamma=1.05070102214813232421875,
    )
)
handles("HardSigmoid")(
    _with_parameters(
        "isnan({0}) ? {0} : fmin(fmax({alpha} * {0} + {beta}, 0.0f), 1.0f)", alpha=0.2, beta=0.5
    )
)
handles("ThresholdedRelu")(_with_parameters("{0} > {alpha} ? {0} : 0.0f", alpha=1.0))
handles("Shrink")(
    _with_parameters(
        "{0} < -{lambd} ? {0} + {bias} : ({0} > {lambd} ? {0} - {bias} : 0.0f)", lambd=0.5, bias=0.0
    )
)


@handles("Gelu")
def gelu(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    x = w.operand(node.inputs[0])
    if text(node, "approximate", "none") == "tanh":
        code = "0.5f * {0} * (1.0f + tanh(0.7978845608f * ({0} + 0.044715f * {0} * {0} * {0})))"
    else:
        code = "0.5f * {0} * (1.0f + erf({0} * 0.70710678f))"
    return _finish(ctx, node, w, w.emit(FLOAT, code, x))


@handles("Neg", "Abs", "Sign", "Not", "IsNaN", "IsInf", "BitwiseNot", narrow=True)
def sign_like(ctx: Context, node: Node) -> bool:
    if _unsigned_64(ctx, node):
        return False
    w = Writer(ctx)
    x = w.operand(node.inputs[0])
    kind = w.dtype(x)
    real = kind == FLOAT
    signs = [integer(node, f"detect_{sign}", 1) for sign in ("negative", "positive")]
    dtype, code = {
        "Neg": (kind, "-{0}"),
        "Abs": (kind, "fabs({0})" if real else "({0} < 0 ? -{0} : {0})"),
        "Sign": (kind, "(isnan({0}) ? {0} : sign({0}))" if real else "(({0} > 0) - ({0} < 0))"),
        "Not": ("bool", "!{0}"),
        "IsNaN": ("bool", "isnan({0}) ? 1 : 0"),
        "IsInf": ("bool", _INFINITE[signs[0], signs[1]]),
        "BitwiseNot": (kind, "~{0}"),
    }[node.op_type]
    return _finish(ctx, node, w, w.emit(dtype, code, x))


_INFINITE = {
    (1, 1): "isinf({0}) ? 1 : 0",
    (1, 0): "{0} == -INFINITY",
    (0, 1): "{0} == INFINITY",
    (0, 0): "0",
}
"""By detect_negative and detect_positive."""


def _unsigned_64(ctx: Context, node: Node) -> bool:
    """True where signs matter and the device has none to spare: uint64 lives in its int64."""
    return any(name and ctx.type_of(name).dtype == "uint64" for name in node.inputs)


_ARITHMETIC = {"Add": "{0} + {1}", "Sub": "{0} - {1}", "Mul": "{0} * {1}", "Div": "{0} / {1}"}
_VARIADIC = {"Max": ("fmax({0}, {1})", "max({0}, {1})"), "Min": ("fmin({0}, {1})", "min({0}, {1})")}


_BITWISE = {"BitwiseAnd": "{0} & {1}", "BitwiseOr": "{0} | {1}", "BitwiseXor": "{0} ^ {1}"}
# What ONNX leaves open must not be a fault: x / 0 is 0, and INT_MIN / -1 wraps.
_WHOLE_DIV = "{1} == 0 ? 0 : ({1} == -1 ? -{0} : {0} / {1})"
_WHOLE_REST = "{1} == 0 || {1} == -1 ? 0 : {0} % {1}"


@handles(*_ARITHMETIC, *_BITWISE, narrow=True)
def arithmetic(ctx: Context, node: Node) -> bool:
    if node.op_type in ("Mul", "Div") and (scaled := _scaled_weight(ctx, node)):
        ctx.values[node.outputs[0]] = scaled
        return True
    w = Writer(ctx)
    a, b = (w.operand(n) for n in node.inputs)
    code = (_ARITHMETIC | _BITWISE)[node.op_type]
    if node.op_type == "Div" and w.dtype(a) != FLOAT:
        if _unsigned_64(ctx, node):
            return False
        code = _WHOLE_DIV
    return _finish(ctx, node, w, w.emit(w.dtype(a), code, a, b))


def _scaled_weight(ctx: Context, node: Node) -> WeightExpr | None:
    """A large weight times, or over, known numbers along one axis: scaled when it is packed.

    So a normalised weight (g * v / |v|), or one that is stored as integers and a scale, stays a
    weight that a convolution can take.
    """
    if ctx.device_dtype(ctx.type_of(node.outputs[0])) != FLOAT:
        return None
    turned = node.inputs if node.op_type == "Div" else (*node.inputs, node.inputs[0])
    for name, by in pairwise(turned):
        weight, factors = ctx.value(name), ctx.numbers(by)
        if not isinstance(weight, WeightExpr) or factors is None:
            continue
        axes = [axis for axis in range(-factors.ndim, 0) if factors.shape[axis] > 1]
        if weight.shape and weight.shape == ctx.shape(node.outputs[0]) and len(axes) <= 1:
            with np.errstate(divide="ignore"):  # 0 / 0 is not a number in ONNX either
                vector = factors.reshape(-1) if node.op_type == "Mul" else 1 / factors.reshape(-1)
            constant = ctx.new_constant(f"{by}.scale", vector).constant
            return weight.cast(FLOAT).scale(axes[0] if axes else 0, constant)
    return None


@handles("Mod", narrow=True)
def modulo(ctx: Context, node: Node) -> bool:
    """The rest has the dividend's sign (fmod) or the divisor's, as Python's has."""
    if _unsigned_64(ctx, node):
        return False
    w = Writer(ctx)
    a, b = (w.operand(n) for n in node.inputs)
    dtype = w.dtype(a)
    rest = w.emit(dtype, "fmod({0}, {1})" if dtype == FLOAT else _WHOLE_REST, a, b)
    if not integer(node, "fmod", 0):
        zero = literal(0, dtype)
        turned = f"{{0}} != {zero} && ({{0}} < {zero}) != ({{1}} < {zero}) ? {{0}} + {{1}} : {{0}}"
        rest = w.emit(dtype, turned, rest, b)
    return _finish(ctx, node, w, rest)


@handles("Max", "Min", "Sum", "Mean", narrow=True)
def variadic(ctx: Context, node: Node) -> bool:
    """Any number of operands: a kernel takes MAX_OPERANDS, more are joined in several passes."""
    if _unsigned_64(ctx, node):
        return False
    kind = ctx.type_of(node.outputs[0])
    dtype = ctx.device_dtype(kind)
    code = _joined(node.op_type, dtype)
    sofar: list[Ref] = []
    left = list(node.inputs)
    while True:
        w = Writer(ctx, sofar)
        parts = [f"x{at}" for at in range(len(sofar))]
        while left and len(w.operands) < MAX_OPERANDS:
            parts.append(w.operand(left.pop(0)))
        total, *others = parts
        for other in others:
            total = w.emit(dtype, code, total, other)
        if not left:
            break
        sofar = [ctx.tensor(f"{node.outputs[0]}.part", kind)]
        ctx.map([node.name], sofar[0], w.operands, w.body(total))
    if node.op_type == "Mean":
        total = w.emit(dtype, "{0} / " + literal(len(node.inputs), dtype), total)
    if not w.operands or total[0] == "x":
        total = w.emit(dtype, "{0}", total)
    return _finish(ctx, node, w, total)


def _joined(op_type: str, dtype: str) -> str:
    """How a variadic operator takes in one more operand."""
    if op_type not in _VARIADIC:
        return "{0} + {1}"
    real, whole = _VARIADIC[op_type]
    # fmax drops a NaN that ONNX keeps.
    return f"isnan({{0}}) || isnan({{1}}) ? NAN : {real}" if dtype == FLOAT else whole


_POWERS = {2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", 1.0: "{0}"}
"""Exponents that a product serves exactly, integers' too."""


@handles("Pow", narrow=True)
def power(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    known = ctx.numbers(node.inputs[1])
    exponent = float(known.ravel()[0]) if known is not None and known.size == 1 else None
    base = w.operand(node.inputs[0])
    dtype = w.dtype(base)
    if exponent is not None and exponent in _POWERS:
        return _finish(ctx, node, w, w.emit(dtype, _POWERS[exponent], base))
    if dtype != FLOAT:
        return False  # a float's power would round what must be exact
    if exponent == 0.5:
        return _finish(ctx, node, w, w.emit(FLOAT, "sqrt({0})", base))
    other = w.operand(node.inputs[1])
    return _finish(ctx, node, w, w.emit(FLOAT, "pow({0}, (float){1})", base, other))


@handles("PRelu", narrow=True)
def prelu(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    x, slope = (w.operand(n) for n in node.inputs)
    kind = w.dtype(x)
    code = f"{{0}} < {literal(0, kind)} ? {{1}} * {{0}} : {{0}}"
    return _finish(ctx, node, w, w.emit(kind, code, x, slope))


@handles("Clip", narrow=True)
def clip(ctx: Context, node: Node) -> bool:
    if _unsigned_64(ctx, node):
        return False
    w = Writer(ctx)
    value = w.operand(node.inputs[0])
    kind = w.dtype(value)
    for index, beyond in ((1, "<"), (2, ">")):
        if source := ctx.optional(node, index):
            code = f"{{0}} {beyond} {{1}} ? {{1}} : {{0}}"
            value = w.emit(kind, code, value, w.operand(source))
    return _finish(ctx, node, w, value)


_COMPARE = {
    "Equal": "==",
    "Less": "<",
    "Greater": ">",
    "LessOrEqual": "<=",
    "GreaterOrEqual": ">=",
    "And": "&&",
    "Or": "||",
    "Xor": "!=",
}


@handles(*_COMPARE)
def compare(ctx: Context, node: Node) -> bool:
    if _unsigned_64(ctx, node) and node.op_type != "Equal":
        return False
    w = Writer(ctx)
    a, b = (w.operand(n) for n in node.inputs)
    return _finish(ctx, node, w, w.emit("bool", f"{{0}} {_COMPARE[node.op_type]} {{1}}", a, b))


@handles("Where", narrow=True)
def where(ctx: Context, node: Node) -> bool:
    w = Writer(ctx)
    condition, a, b = (w.operand(n) for n in node.inputs)
    return _finish(ctx, node, w, w.emit(w.dtype(a), "{0} ? {1} : {2}", condition, a, b))


@handles("Cast", "CastLike", narrow=True)
def cast(ctx: Context, node: Node) -> bool:
    source, target = ctx.type_of(node.inputs[0]), ctx.type_of(node.outputs[0])
    if "uint64" in (source.dtype, target.dtype):
        return False
    old, new = ctx.device_dtype(source), ctx.device_dtype(target)
    value = ctx.value(node.inputs[0])
    same = old == new and target.dtype not in _WRAPS and source.dtype != "float64"
    if same and isinstance(value, Ref):
        ctx.values[node.outputs[0]] = value
        return True
    if new == FLOAT and isinstance(value, WeightExpr):  # done when it is packed
        ctx.values[node.outputs[0]] = value.cast(FLOAT)
        return True
    w = Writer(ctx)
    x = w.operand(node.inputs[0])
    code = "{0} != 0" if new == "bool" else f"({CTYPES[new]}){{0}}"
    return _finish(ctx, node, w, w.emit(new, code, x))
