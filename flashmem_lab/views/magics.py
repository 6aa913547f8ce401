"""The magics of `%load_ext flashmem_lab`: a workbench in a line, a run in a cell."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.units import Budget
from flashmem_lab.views.workbench import Workbench
from flashmem_lab.worker.planning import Ask

if TYPE_CHECKING:
    from flashmem_lab.outcome import Outcome


@magics_class
class FlashMemMagics(Magics):
    """`%flashmem MODEL` opens the workbench; `%%flashmem MODEL` runs it on what the cell makes."""

    @magic_arguments()
    @argument("model", help="path of an .onnx file")
    @argument("--budget", default="30%", help="such as 30%%, 200MB or min")
    @argument("--device", default="auto", help="such as ocl:0 or sim:adreno750")
    @argument("--precision", default="fp32", choices=[one.value for one in Precision])
    @argument("--dim", action="append", default=[], metavar="NAME=VALUE", help="open dimension")
    @argument("--repeat", type=int, default=1, help="runs of a cell; the first is cold")
    @line_cell_magic
    def flashmem(self, line: str, cell: str | None = None) -> Workbench | Outcome | None:
        """Opens a model in the workbench; as a cell magic, runs it and shows what it took.

        The variables that the cell leaves behind and that are named as the model's inputs are its
        inputs; other inputs are drawn at random. The outcome is the cell's value.
        """
        chosen = parse_argstring(self.flashmem, line)
        try:
            dims = dict(_dim(text) for text in chosen.dim)
            if cell is None:
                return Workbench(
                    chosen.model,
                    device=chosen.device,
                    budget=chosen.budget,
                    precision=chosen.precision,
                    dims=dims,
                )
            return self._run(chosen, dims, cell)
        except (FlashMemError, ValueError) as error:
            print(error, file=sys.stderr)  # an answer to a question, not a fault in the notebook
            return None

    def _run(self, chosen: argparse.Namespace, dims: dict[str, int], cell: str) -> Outcome | None:
        from flashmem_lab.worker import isolated

        engine = isolated()
        shell: Any = self.shell
        if cell.strip() and not shell.run_cell(cell).success:
            return None  # IPython has shown the error
        device = engine.open_device(chosen.device)
        prepared = engine.load(
            chosen.model, device=device, precision=Precision(chosen.precision), dims=dims
        )
        plan = engine.make_plan(prepared, Ask(Budget.parse(chosen.budget)))
        given = {
            name: np.asarray(shell.user_ns[name])
            for name in prepared.graph.inputs
            if name in shell.user_ns
        }
        check = not device.id.startswith("sim:") and find_spec("onnxruntime") is not None
        return engine.run(prepared, plan, given, repeat=chosen.repeat, check=check)


def _dim(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not value.isdecimal():
        raise ValueError(f"--dim {text}: give NAME=VALUE, such as batch=1")
    return name, int(value)
