"""The zoo's graphs lowered without their weights: all that a planner needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flashmem_lab.device import DeviceSpec
from flashmem_lab.graph import open_graph
from flashmem_lab.lower import LoweredModel, Precision, lower
from flashmem_lab.zoo import entry
from flashmem_lab.zoo.recipe import member_stream, open_archive, read_member


def hollow_zoo_model(name: str, folder: Path) -> Path:
    """Writes a model of the zoo whose weights are a hole in a file: they take no disk space.

    Args:
        name: of the zoo.
        folder: gets NAME.onnx and NAME.onnx.data.

    Returns:
        The path of the ONNX file.
    """
    model = entry(name)
    graph, data = folder / f"{name}.onnx", folder / f"{name}.onnx.data"
    with (
        model.archive.open("rb") as archive,
        open_archive(archive) as members,
        data.open("wb") as stream,
    ):
        graph.write_bytes(read_member(members, "model.onnx"))
        constants = member_stream(members, "constants.bin")
        for tensor in model.tensors:
            if tensor.constant is not None:  # shapes may depend on it
                constants.seek(tensor.constant)
                stream.seek(tensor.offset)
                stream.write(constants.read(tensor.length))
        stream.truncate(model.data_bytes)
    return graph


def lowered_zoo_model(name: str, device: DeviceSpec, precision: Precision) -> LoweredModel:
    """A model of the zoo, lowered.

    Args:
        name: of the zoo.
        device: where it is to run.
        precision: of the weights on the device.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = hollow_zoo_model(name, Path(folder))
        return lower(open_graph(graph), device, precision=precision)
