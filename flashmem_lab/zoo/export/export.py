# mypy: ignore-errors
"""Write the zoo's graphs: ``python export.py NAME...``, or no name for every recipe in ../data.

Run by maintainers only, in a venv of its own; the package never imports it, users never install it:

    python -m venv VENV
    VENV/bin/pip install -r requirements.txt
    VENV/bin/pip install --no-deps vit-pytorch==1.26.11
    VENV/bin/python export.py mobilenetv2

Nothing is downloaded: models are built from their configurations. The same recipe and the same
versions give the same bytes, which is how to see that an archive is what its recipe says.

A recipe (../data/NAME.toml) says which public model to build; this script exports it with torch's
ONNX exporter and writes ../data/NAME.tar.xz with three members:

- ``facts.json``: what was exported and with what, counts, and the layout of the data file: every
  tensor's name, place and, for a weight, the torch parameter it comes from and its fan-in.
- ``model.onnx``: the graph, complete but for its external data.
- ``constants.bin``: large tensors that no parameter goes into (causal masks), byte for byte.

No weight is ever allocated: each parameter is one random number expanded to the parameter's shape,
so that an export takes 0.5 to 1.4 GB of memory and at most some minutes (2026-11, two cores).
Distinct numbers matter, because the exporter merges equal initializers, which those of an untrained
model (biases of zeros, norm scales of ones) are and those of a trained one are not.
"""

import argparse
import ast
import collections
import importlib
import importlib.metadata
import io
import json
import math
import sys
import tarfile
import tomllib
import types
import warnings
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common as common_passes

DATA = Path(__file__).resolve().parent.parent / "data"
OWN_MODULES = ("yolo",)  # beside this script; the others are installed
OPSET = 20
INLINE_CONSTANT_BYTES = 64 * 1024  # constants up to here stay in the graph
ALIGN_FROM_BYTES = 64 * 1024  # tensors from here on start at a page, so that they can be mapped
PAGE_BYTES = 4096
NODE_METADATA = ("namespace", "pkg.torch.onnx.name_scopes")  # what collapses a graph by scope
FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"


def build(recipe: dict, *, seed: int) -> torch.nn.Module:
    """The recipe's model in eval mode, with stand-ins for its parameters."""
    source = recipe["source"]
    package = source["library"].split(".")[0]
    if package == "vit_pytorch" and package not in sys.modules:  # its __init__ wants torchvision
        sys.modules[package] = _package_without_init(package)
    library = importlib.import_module(source["library"])
    arguments = _config(library, source["config"])

    def to_meta(module, name, parameter):
        if not parameter.is_meta:  # one that is set again is being tied, and stays itself
            return torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
        return None

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(to_meta)
    try:
        model_class = getattr(library, source["model"])
        model = model_class(**arguments) if isinstance(arguments, dict) else model_class(arguments)
    finally:
        hook.remove()
    _fill(model, torch.Generator().manual_seed(seed))
    return model.eval()


def _config(library, values):
    """Tables that name a ``class`` become an instance of it, inside out."""
    if not isinstance(values, dict):
        return values
    values = {key: _config(library, value) for key, value in values.items()}
    name = values.pop("class", None)
    return getattr(library, name)(**values) if name else values


def _package_without_init(name: str) -> types.ModuleType:
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    return package


def _fill(model: torch.nn.Module, generator: torch.Generator) -> None:
    made: dict[int, torch.nn.Parameter] = {}  # a parameter used twice stays one
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                number = torch.rand((1,) * parameter.ndim, generator=generator) + 0.5
                made[id(parameter)] = torch.nn.Parameter(
                    number.expand(parameter.shape), requires_grad=False
                )
            setattr(module, name, made[id(parameter)])
    saved = model.state_dict()
    for name, buffer in model.named_buffers():  # BatchNorm's statistics, SAM's positional encoding
        if name in saved and buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=generator)


def example_inputs(recipe: dict) -> dict[str, torch.Tensor]:
    """Zeros of the shapes in the recipe; no value of an input reaches the graph."""
    return {
        spec["name"]: torch.zeros(spec["shape"], dtype=getattr(torch, spec["dtype"]))
        for spec in recipe["inputs"]
    }


def export(recipe: dict, *, seed: int) -> tuple[ir.Model, torch.nn.Module]:
    """The recipe's model as torch's exporter writes it, and the torch model."""
    model = build(recipe, seed=seed)
    program = torch.onnx.export(
        model,
        (),
        kwargs=example_inputs(recipe) | recipe["source"].get("arguments", {}),
        dynamo=True,
        opset_version=OPSET,
        input_names=[spec["name"] for spec in recipe["inputs"]],
        output_names=[spec["name"] for spec in recipe["outputs"]],
        verbose=False,
    )
    del program.model.graph.outputs[len(recipe["outputs"]) :]
    common_passes.RemoveUnusedNodesPass()(program.model)
    return program.model, model


def origins(graph: ir.Graph, parameters: set[str]) -> dict[str, str]:
    """Initializer name -> name of the torch parameter that it holds, where the exporter says so."""
    found = {}
    for name, value in graph.initializers.items():
        folded_from = ast.literal_eval(value.metadata_props.get(FOLDED_FROM, "[]"))
        sources = [source for source in (name, *folded_from) if source in parameters]
        if sources:
            found[name] = sources[0]
    return found


def same_bytes(left: ir.Value, right: ir.Value) -> bool:
    """Whether two initializers hold the same values."""
    return left.const_value.tobytes() == right.const_value.tobytes()


def fan_in(value: ir.Value) -> int:
    """How many products each output of the weight's consumer adds up; 0 if it is in no product."""
    for node, position in value.uses():
        shape = [int(size) for size in value.shape]
        if node.op_type == "MatMul":
            return shape[-2] if position == 1 else shape[-1]
        if node.op_type == "Gemm" and position == 1:
            transposed = node.attributes["transB"].as_int() if "transB" in node.attributes else 0
            return shape[1] if transposed else shape[0]
        if node.op_type == "Conv" and position == 1:
            return math.prod(shape[1:])
        if node.op_type == "ConvTranspose" and position == 1:
            strides = node.attributes["strides"].as_ints()
            return math.ceil(shape[0] * math.prod(shape[2:]) / math.prod(strides))
        if node.op_type in ("Transpose", "Reshape", "Unsqueeze"):
            below = fan_in(node.outputs[0])
            if below:
                return below
    return 0


def macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of every matrix product and convolution, attention included."""
    total = 0
    for node in graph.all_nodes():
        if node.op_type == "Einsum":
            operands = node.attributes["equation"].as_string().split("->")[0].split(",")
            shapes = [value.shape for value in node.inputs]
            sizes = {
                label: int(size)
                for labels, shape in zip(operands, shapes, strict=True)
                for label, size in zip(labels.replace(" ", ""), shape, strict=True)
            }
            total += math.prod(sizes.values())
        if node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
            output = [int(size) for size in node.outputs[0].shape]
            left, weight = ([int(size) for size in value.shape] for value in node.inputs[:2])
            if node.op_type == "MatMul":
                total += math.prod(output) * left[-1]
            elif node.op_type == "Gemm":
                total += math.prod(output) * math.prod(left) // output[0]
            elif node.op_type == "Conv":
                total += math.prod(output) * math.prod(weight[1:])
            else:
                total += math.prod(left) * math.prod(weight[1:])
    return total


def externalise(name: str, graph: ir.Graph, twin: ir.Graph, parameters: set[str]):
    """Move weights and large constants out of the graph.

    An initializer is a weight if its bytes depend on the parameters, that is if it comes out
    different in ``twin``, the same export with other stand-ins.

    Returns:
        The rows of the layout in file order, the constants' bytes, and the data file's size.
    """
    origin = origins(graph, parameters)
    rows, constants, end = [], io.BytesIO(), 0
    for tensor, value in graph.initializers.items():
        data = value.const_value
        is_weight = tensor in parameters or not same_bytes(value, twin.initializers[tensor])
        if not is_weight and data.nbytes <= INLINE_CONSTANT_BYTES:
            value.const_value = ir.Tensor(data.numpy().copy(), name=tensor)
            continue
        length = int(data.nbytes)
        align = PAGE_BYTES if length >= ALIGN_FROM_BYTES else int(data.dtype.itemsize)
        offset = -(-end // align) * align
        end = offset + length
        row = {
            "name": tensor,
            "dtype": str(data.dtype.numpy()),
            "shape": list(data.shape.numpy()),
            "offset": offset,
            "length": length,
        }
        if is_weight:
            row |= {"origin": origin.get(tensor, tensor), "fan_in": fan_in(value)}
        else:
            row["constant"] = constants.tell()
            constants.write(data.tobytes())
        rows.append(row)
        value.const_value = ir.ExternalTensor(
            f"{name}.onnx.data",
            offset,
            length,
            data.dtype,
            shape=data.shape,
            name=tensor,
            base_dir="",
        )
    return rows, constants.getvalue(), end


def strip(model: ir.Model) -> None:
    """Drop stack traces and the like; keep each node's scope and what a tensor was folded from."""
    model.doc_string = None
    model.metadata_props.clear()
    graph = model.graph
    graph.doc_string = None
    graph.metadata_props.clear()
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        node.doc_string = None
        kept = {
            key: node.metadata_props[key] for key in NODE_METADATA if key in node.metadata_props
        }
        node.metadata_props.clear()
        node.metadata_props.update(kept)
        values += node.outputs
    for value in values:
        kept = {key: text for key, text in value.metadata_props.items() if key == FOLDED_FROM}
        value.metadata_props.clear()
        value.metadata_props.update(kept)


def pack(path: Path, members: dict[str, bytes]) -> None:
    """A tar.xz whose bytes depend on nothing but its members' bytes."""
    with tarfile.open(path, "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def make(name: str) -> None:
    """Export one recipe and write its archive."""
    recipe = tomllib.loads((DATA / f"{name}.toml").read_text())
    twin, _ = export(recipe, seed=2)
    model, torch_model = export(recipe, seed=1)
    saved = torch_model.state_dict()
    parameters = {name for name, value in saved.items() if value.is_floating_point()}
    rows, constants, size = externalise(name, model.graph, twin.graph, parameters)
    strip(model)
    graph = ir.to_proto(model).SerializeToString(deterministic=True)
    package = recipe["source"]["library"].split(".")[0]
    libraries = {"torch"} if package in OWN_MODULES else {"torch", package.replace("_", "-")}
    facts = {
        "schema": 1,
        "exporter": {
            library: importlib.metadata.version(library)
            for library in [*sorted(libraries), "onnx-ir", "onnxscript"]
        },
        "opset": OPSET,
        "params": sum(p.numel() for p in torch_model.parameters()),
        "macs": macs(model.graph),
        "nodes": len(model.graph),
        "operators": dict(
            sorted(collections.Counter(node.op_type for node in model.graph).items())
        ),
        "outputs": {value.name: list(value.shape.numpy()) for value in model.graph.outputs},
        "data_bytes": size,
        "tensors": rows,
    }
    path = DATA / f"{name}.tar.xz"
    pack(
        path,
        {
            "facts.json": json.dumps(facts, separators=(",", ":")).encode(),
            "model.onnx": graph,
            "constants.bin": constants,
        },
    )
    loaded = onnx.load_model_from_string(graph)
    summary = {key: value for key, value in facts.items() if key != "tensors"}
    print(json.dumps(summary | {"tensors": len(rows), "ir_version": loaded.ir_version}))
    print(
        f"{path.name}: {path.stat().st_size} bytes, graph {len(graph)}, constants {len(constants)}"
    )
    computed = [row["name"] for row in rows if row.get("origin", "") not in parameters | {""}]
    if computed:  # the recipe's rules have only these names to go by
        print(f"computed from several parameters: {', '.join(computed)}")


def main() -> None:
    """Export the recipes named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names or sorted(path.stem for path in DATA.glob("*.toml"))
    warnings.filterwarnings("ignore")
    for name in names:
        print(name, flush=True)
        make(name)


if __name__ == "__main__":
    main()
