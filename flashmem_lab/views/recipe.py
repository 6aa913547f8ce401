"""What was clicked, as text that does the same: a command line, and Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from flashmem_lab.plan import Plan
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.views.loading import Source
from flashmem_lab.views.planning import PRICE, Choice


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a run comes about.

    Attributes:
        source: the model, and the sizes of what it takes.
        choice: what the controls say.
        plan: its budget, and what was asked of the schedule by hand.
        repeat: how many runs.
        check: whether outputs are compared with onnxruntime's.
    """

    source: Source
    choice: Choice
    plan: Plan
    repeat: int
    check: bool

    def command(self) -> str:
        """A line for a shell."""
        choice, asked = self.choice, self.plan.constraints
        words: list[str] = ["flashmem-lab", "run", str(self.source.model)]

        def add(option: str, values: Sequence[object]) -> None:
            for value in values:
                words.extend((option, str(value)))

        add("--device", [choice.device])
        add("--budget", [self.plan.budget_bytes])
        add("--precision", [choice.precision.value])
        add("--strategy", [choice.strategy.value])
        add("--optimize", [choice.optimize.value])
        add("--lambda", [choice.lambda_] if choice.lambda_ != PRICE else [])
        add("--transport", [choice.transport] if choice.transport else [])
        add("--chunk", [choice.chunk_bytes] if choice.chunk_bytes != CHUNK_BYTES else [])
        add("--dim", [f"{name}={value}" for name, value in self.source.dims.items()])
        add("--shape", [f"{name}={_by(shape)}" for name, shape in self.source.shapes.items()])
        add("--preload", asked.preload)
        add("--stream", asked.stream)
        add("--window", [f"{one.weight}={one.first}:{one.last}" for one in asked.windows])
        add("--repeat", [self.repeat])
        return shlex.join([*words, "--check"] if self.check else words)

    def python(self) -> str:
        """Lines for a notebook or a script; `outcome` has what the run gave."""
        choice, asked = self.choice, self.plan.constraints
        opened = [f"{str(self.source.model)!r}", f"device=open_device({choice.device!r})"]
        opened.append(f"precision=Precision({choice.precision.value!r})")
        opened += [f"dims={dict(self.source.dims)!r}"] if self.source.dims else []
        opened += [f"shapes={dict(self.source.shapes)!r}"] if self.source.shapes else []
        planned = [
            "model",
            f"budget=Budget(bytes={self.plan.budget_bytes})",
            f"strategy=Strategy({choice.strategy.value!r})",
            f"optimize=Objective({choice.optimize.value!r})",
        ]
        names = ["Objective", "Strategy"]
        if choice.lambda_ != PRICE:
            names.insert(1, "Prices")
            planned.append(f"prices=Prices(lambda_={choice.lambda_})")
        if choice.transport:
            planned.append(f"transport=Transport({choice.transport!r})")
        if choice.chunk_bytes != CHUNK_BYTES:
            planned.append(f"chunk_bytes={choice.chunk_bytes}")
        if asked:
            names = ["Constraints", *names, *(["Window"] if asked.windows else [])]
            planned.append(f"constraints={asked!r}")
        ran = ["model", "plan", f"repeat={self.repeat}", *(["check=True"] if self.check else [])]
        return "\n".join(
            [
                "from flashmem_lab import Budget, load, make_plan, open_device, run",
                *(["from flashmem_lab.device import Transport"] if choice.transport else []),
                "from flashmem_lab.lower import Precision",
                f"from flashmem_lab.plan import {', '.join(names)}",
                "",
                f"model = {_call('load', opened)}",
                f"plan = {_call('make_plan', planned)}",
                f"outcome = {_call('run', ran)}",
                "outcome",
                "",
            ]
        )


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(extent) for extent in shape)


def _call(name: str, arguments: Sequence[str]) -> str:
    """A call on one line where it fits, else an argument on each."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= 80:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in arguments) + ")"
