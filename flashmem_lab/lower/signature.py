"""Kernel signatures: arguments, and the macros through which a template reads and writes them.

A view `x` becomes a pointer, an offset and the strides that are not 0 or 1; the template says
X_AT(n, c, h, w) and knows nothing of layout. Whether a stride is 0, 1 or larger is part of the
source; its value is an argument, so that one compiled kernel serves many shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from flashmem_lab.lower.body import CTYPES, Body, to_c
from flashmem_lab.lower.ir import Digits, Op, Ref
from flashmem_lab.lower.layer import Arg, Storage
from flashmem_lab.lower.textures import Panels, Texture


@dataclass
class Signature:
    """Collects the arguments of one kernel call.

    Attributes:
        arguments: declarations in OpenCL C.
        args: values, in the same order.
        defines: macros that belong to them.
    """

    arguments: list[str] = field(default_factory=list)
    args: list[Arg] = field(default_factory=list)
    defines: list[str] = field(default_factory=list)

    def integer(self, name: str, value: int) -> None:
        """An int argument."""
        self.arguments.append(f"const int {name}")
        self.args.append(Arg("int", value))

    def integers(self, **values: int) -> None:
        """Int arguments, in the order given."""
        for name, value in values.items():
            self.integer(name, value)

    def view(self, name: str, ref: Ref, *, written: bool = False) -> None:
        """A strided view, read or written as NAME_AT(i0, i1, ...)."""
        kind = CTYPES[ref.dtype]
        # What is written is never read: `restrict` lets loops over STORE become vectors.
        pointer = f"{kind}* restrict" if written else f"const {kind}*"
        self.arguments.append(f"__global {pointer} {name}")
        self.args.append(Arg("object", ref.tensor.name))
        terms = []
        if ref.offset:
            self.integer(f"{name}_o", ref.offset)
            terms.append(f"{name}_o")
        coordinates = [f"i{axis}" for axis in range(len(ref.shape))]
        for axis, digits in enumerate(ref.digits()):
            terms += self._terms(f"i{axis}", f"{name}_s{axis}", digits)
        index = " + ".join(terms) or "0"
        upper, listed = name.upper(), ", ".join(coordinates)
        self.defines.append(f"#define {upper}_INDEX({listed}) ({index})")
        self.defines.append(f"#define {upper}_AT({listed}) {name}[{upper}_INDEX({listed})]")

    def _terms(self, coordinate: str, stride_name: str, digits: Digits) -> list[str]:
        """Index terms of one dimension; its digits are divided out by constants, which is cheap."""
        terms = []
        for place, (extent, stride) in enumerate(digits):
            if extent == 1 or stride == 0:
                continue
            digit, below = f"({coordinate})", prod(e for e, _ in digits[place + 1 :])
            if below > 1:
                digit = f"({digit} / {below})"
            if place:
                digit = f"({digit} % {extent})"
            if stride != 1:
                name = stride_name if len(digits) == 1 else f"{stride_name}_{place}"
                self.integer(name, stride)
                digit = f"{digit} * {name}"
            terms.append(digit)
        return terms

    def texture(self, name: str, ref: str, shape: Texture, storage: Storage, half: bool) -> None:
        """A packed weight, read as NAME_AT(column, step): four output channels of one step."""
        x, y = "(column)", "(step)"
        image = storage is Storage.IMAGE2D
        kind = f"{'half' if half else 'float'}*"
        self.arguments.append(
            f"__read_only image2d_t {name}" if image else f"__global const {kind} {name}"
        )
        self.args.append(Arg("object", ref))
        if shape.folded:  # the height is part of the source: dividing by a constant is cheap
            self.integer(f"{name}_columns", shape.columns)
            x = f"(column) + {name}_columns * ((step) / {shape.height})"
            y = f"(step) % {shape.height}"
        if image:
            read = f"read_imagef({name}, (int2)({x}, {y}))"
        else:
            self.integer(f"{name}_width", shape.width)
            read = f"vload{'_half' if half else ''}4((size_t)({y}) * {name}_width + {x}, {name})"
        self.defines.append(f"#define {name.upper()}_AT(column, step) {read}")

    def panels(self, name: str, ref: str, shape: Panels, storage: Storage, half: bool) -> None:
        """A packed weight, read as NAME_AT(panel, quarter, step): four channels of a step.

        In a buffer also as NAME_LINE(panel, vector, step): sixteen.
        """
        quarters = shape.columns // 4
        self.args.append(Arg("object", ref))
        if storage is Storage.IMAGE2D:
            self.arguments.append(f"__read_only image2d_t {name}")
            x, y = f"(step) * {quarters} + (quarter)", "(panel)"
            if shape.folds > 1:  # the length is part of the source: dividing by it is cheap
                x = f"(step) % {shape.steps} * {quarters} + (quarter)"
                y = f"(panel) * {shape.folds} + (step) / {shape.steps}"
            read = f"read_imagef({name}, (int2)({x}, {y}))"
        else:
            self.arguments.append(f"__global const {'half' if half else 'float'}* {name}")
            self.integer(f"{name}_steps", shape.folds * shape.steps)
            row = f"((size_t)(panel) * {name}_steps + (step)) * {quarters}"
            load = f"vload{'_half' if half else ''}"
            read = f"{load}4({row} + (quarter), {name})"
            line = f"{load}16(0, {name} + 4 * ({row}) + 16 * (vector))"
            self.defines.append(f"#define {name.upper()}_LINE(panel, vector, step) {line}")
        self.defines.append(f"#define {name.upper()}_AT(panel, quarter, step) {read}")

    def store(self, op: Op) -> None:
        """The operation's output with its body, written as STORE(e0, ..., value)."""
        self.view("out", op.out, written=True)
        anchored = op.kind != "map"
        names = ["v"] if anchored else []
        coordinates = ", ".join(f"e{axis}" for axis in range(len(op.out.shape)))
        lines = [f"const {CTYPES[op.body.inputs[0]]} v = (value);"] if anchored else []
        for number, ref in enumerate(op.extras):
            name = f"p{number}"
            self.view(name, ref)
            lines.append(f"const {CTYPES[ref.dtype]} {name}_v = {name.upper()}_AT({coordinates});")
            names.append(f"{name}_v")
        statements, result = to_c(op.body, names)
        lines += [*statements, f"OUT_AT({coordinates}) = {result};"]
        parameters = f"{coordinates}, value" if anchored else coordinates
        body = " \\\n  ".join(lines)
        self.defines.append(f"#define STORE({parameters}) do {{ \\\n  {body} \\\n}} while (0)")

    def score(self, body: Body, operands: dict[str, Ref]) -> None:
        """A program on one value and operands, as SCORE(e0, e1, e2, e3, value) in place."""
        lines, names = [f"const {CTYPES[body.inputs[0]]} v = (value);"], ["v"]
        for name, ref in operands.items():
            self.view(name, ref)
            lines.append(f"const {CTYPES[ref.dtype]} {name}_v = {name.upper()}_AT(e0, e1, e2, e3);")
            names.append(f"{name}_v")
        statements, result = to_c(body, names)
        text = " \\\n  ".join([*lines, *statements, f"(value) = {result};"])
        macro = f"#define SCORE(e0, e1, e2, e3, value) do {{ \\\n  {text} \\\n}} while (0)"
        self.defines.append(macro)

    def params(self) -> dict[str, object]:
        """What the template needs of it."""
        return {"arguments": ",\n    ".join(self.arguments), "defines": "\n".join(self.defines)}
