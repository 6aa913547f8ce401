"""Another engine on the same file: onnxruntime's CPU provider with all that it optimises."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import numpy as np

from flashmem_lab.errors import ModelError


class Peer:
    """A session that is kept from run to run.

    Args:
        path: the .onnx file.
        threads: of one operator.

    Raises:
        ModelError: onnxruntime is not installed, or cannot load the model.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ModelError(
                "comparing with onnxruntime needs it, and it is not installed",
                hint="pip install onnxruntime",
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Its threads would spin on after a run and take the cores from whoever runs next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes share no public base
            raise ModelError(f"onnxruntime cannot load {path}: {error}") from error

    def run_ms(self, inputs: Mapping[str, np.ndarray]) -> float:
        """Runs once, with arrays by input name, and says how long that took."""
        began = perf_counter()
        self._session.run(None, dict(inputs))
        return (perf_counter() - began) * 1e3
