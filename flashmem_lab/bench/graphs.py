"""The zoo's graphs lowered without their weights: all that a planner needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flashmem_lab.device import DeviceSpec
from flashmem_lab.graph import open_graph
from flashmem_lab.lower import LoweredModel, Precision, lower
from flashmem_lab.zoo import entry
from flashmem_lab.zoo.recipe import member_stream, open_archive, read_member


def lowered_zoo_model(name: str, device: DeviceSpec, precision: Precision) -> LoweredModel:
    """A model of the zoo, lowered; its weights are a hole in a file, so it takes no disk space.

    Args:
        name: of the zoo.
        device: where it is to run.
        precision: of the weights on the device.
    """
    model = entry(name)
    with tempfile.TemporaryDirectory() as folder, model.archive.open("rb") as archive:
        graph, data = Path(folder, f"{name}.onnx"), Path(folder, f"{name}.onnx.data")
        with open_archive(archive) as members, data.open("wb") as stream:
            graph.write_bytes(read_member(members, "model.onnx"))
            constants = member_stream(members, "constants.bin")
            for tensor in model.tensors:
                if tensor.constant is not None:  # shapes may depend on it
                    constants.seek(tensor.constant)
                    stream.seek(tensor.offset)
                    stream.write(constants.read(tensor.length))
            stream.truncate(model.data_bytes)
        return lower(open_graph(graph), device, precision=precision)
