"""Nodes that no kernel covers, evaluated here: by a local run, or for an agent elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from flashmem_lab.errors import ModelError
from flashmem_lab.lower.layer import HostCall
from flashmem_lab.program.sources import dtype_of
from flashmem_lab.runtime.weightfile import WeightFiles


def evaluate_call(
    work: HostCall, inputs: Mapping[str, np.ndarray], file: WeightFiles
) -> dict[str, np.ndarray]:
    """Outputs of a node by name.

    Args:
        work: the node.
        inputs: one array for each of work.inputs, of its view's dtype and shape.
        file: where its weights are read from, whole.

    Raises:
        CacheCorrupt: a weight that it reads is damaged.
        ModelError: the node fails, or an output has not the shape declared.
    """
    # ONNX and its runtime take a tenth of a second and 50 MB: only for models that need them.
    from flashmem_lab.graph.evaluate import evaluate

    arrays = dict(inputs)
    for name, weight, dtype, shape in work.weights:
        raw = file.whole(weight)
        arrays[name] = raw[: prod(shape) * dtype_of(dtype).itemsize].view(dtype_of(dtype))
        arrays[name] = arrays[name].reshape(shape)
    outputs = evaluate(work.model, arrays)
    for name, view in work.outputs:
        if outputs[name].shape != view.shape:
            raise ModelError(
                f"the shape of {name!r} depends on the data: here it is "
                f"{outputs[name].shape}, and the model declares {view.shape}",
                hint="only graphs whose shapes follow from the input shapes can be run",
            )
    return outputs
