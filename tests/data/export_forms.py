"""Writes exporters.tar.xz: every form of forms.py by both of torch's exporters, over their opsets.

Run it where torch and onnxscript are installed: python -m tests.data.export_forms [NAME ...]
The archive is the same, byte for byte, when torch, onnx and onnxscript are. A graph that an
exporter writes alike for several opsets is kept once, under the oldest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import lzma
import sys
import tarfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from tests.data.foreign import FOREIGN
from tests.data.forms import FORMS

TORCHSCRIPT = (11, 13, 14, 16, 17)
DYNAMO = (18, 20, 21, 23)

OPEN = ("multihead", "conv2d", "embedding", "shape_arithmetic", "sdpa_boolean", "windows")
"""Forms that are exported once more with their first dimension open."""

ARCHIVE = Path(__file__).with_name("exporters.tar.xz")


class Calls(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(*inputs)


def exported(name: str, opset: int, *, dynamo: bool, dynamic: bool) -> onnx.ModelProto:
    """One form by one exporter at one opset."""
    torch.manual_seed(0)
    made, *inputs = FORMS[name]()
    module = (made if isinstance(made, nn.Module) else Calls(made)).eval()
    names = [f"x{at}" for at in range(len(inputs))]
    options: dict[str, object] = {}
    if dynamic and dynamo:
        batch = torch.export.Dim("batch")
        options["dynamic_shapes"] = (tuple({0: batch} for _ in inputs),)
        if isinstance(made, nn.Module):
            options["dynamic_shapes"] = tuple({0: batch} for _ in inputs)
    elif dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in names}
    buffer = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = torch.onnx.export(
            module, tuple(inputs), None if dynamo else buffer, input_names=names,
            opset_version=opset, dynamo=dynamo, verbose=False, **options,
        )  # fmt: skip
    return bare(result.model_proto if dynamo else onnx.load_model_from_string(buffer.getvalue()))


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what only says where a node came from: paths and stack traces of this machine."""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
            graphs.extend(a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
        for value in [*graph.value_info, *getattr(graph, "input", [])]:
            if isinstance(value, onnx.ValueInfoProto):
                del value.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    return model


def every_graph(names: list[str]) -> dict[str, bytes]:
    """File name -> serialised model; of graphs that differ by opset alone, the oldest."""
    files = {}
    seen = set()
    for name in names:
        for dynamo, opsets in ((False, TORCHSCRIPT), (True, DYNAMO)):
            for opset in opsets:
                for dynamic in (False, True)[: 1 + (name in OPEN and opset in (17, 20))]:
                    label = f"{name}{'.open' if dynamic else ''}.{'dynamo' if dynamo else 'script'}"
                    try:
                        model = exported(name, opset, dynamo=dynamo, dynamic=dynamic)
                    except Exception as error:  # an exporter refuses some forms at some opsets
                        print(f"{label}.{opset}: {str(error).strip().splitlines()[0][:110]}")
                        continue
                    proto = model.graph.SerializeToString(deterministic=True)
                    if (label, proto) not in seen:
                        seen.add((label, proto))
                        files[f"{label}.{opset}.onnx"] = model.SerializeToString(deterministic=True)
        print(name, flush=True)
    return files


def write(files: dict[str, bytes]) -> None:
    """The archive, with nothing in it that differs from run to run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    ARCHIVE.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # torchvision is missing, and not needed
    found = every_graph(sys.argv[1:] or list(FORMS))
    write(found | {f"{name}.onnx": make() for name, make in FOREIGN.items()})
    print(f"{len(found)} exported, {len(FOREIGN)} foreign: {ARCHIVE.stat().st_size} bytes")
