"""The zoo's models in PyTorch's eager mode on CUDA: the peer where there is an NVIDIA GPU.

PyTorch is nobody's dependency here: it is used where it happens to be installed, with the library
that the model comes from. Weights are as that library initialises them; no time depends on them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np

from flashmem_lab.errors import ModelError


def missing(*packages: str) -> tuple[str, ...]:
    """Which of the packages are not installed."""
    return tuple(name for name in packages if find_spec(name) is None)


class Eager:
    """A model of the zoo, built from the configuration in its recipe, in fp32.

    Args:
        name: of the zoo.
        offload: True to leave weights in host memory and let accelerate bring those of each
            module when it runs (`accelerate.cpu_offload`), False to keep them on the device.

    Raises:
        ModelError: a package is missing, or PyTorch sees no CUDA device.
    """

    def __init__(self, name: str, *, offload: bool) -> None:
        recipe = tomllib.loads(files("flashmem_lab.zoo").joinpath(f"data/{name}.toml").read_text())
        source = recipe["source"]
        lacking = missing("torch", source["library"].split(".")[0], *["accelerate"] * offload)
        if lacking:
            raise ModelError(
                f"{name} in PyTorch needs {' and '.join(lacking)}",
                hint=f"pip install {' '.join(lacking)}, or leave {name} out of --models",
            )
        self._torch = torch = import_module("torch")
        if not torch.cuda.is_available():
            raise ModelError("PyTorch sees no CUDA device here", hint="run this on an NVIDIA GPU")
        library = import_module(source["library"])
        given = _configured(library, source["config"])
        made = getattr(library, source["model"])
        with torch.device("cuda"):
            model = made(**given) if isinstance(given, dict) else made(given)
        self._model = model.eval()
        self._arguments = source.get("arguments", {})
        if offload:
            self._model.to("cpu")
            torch.cuda.empty_cache()
            import_module("accelerate").cpu_offload(self._model, "cuda")

    def run_ms(self, inputs: Mapping[str, np.ndarray], *, tf32: bool = False) -> float:
        """Runs once, with arrays by input name, and says how long that took.

        Args:
            inputs: on the host; they are brought to the device before the clock starts.
            tf32: whether products may round their operands to 10 bits of mantissa.
        """
        torch = self._torch
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        given = {name: torch.from_numpy(value).cuda() for name, value in inputs.items()}
        torch.cuda.synchronize()
        began = perf_counter()
        with torch.inference_mode():
            self._model(**given, **self._arguments)
        torch.cuda.synchronize()
        return (perf_counter() - began) * 1e3

    def peak_bytes(self, inputs: Mapping[str, np.ndarray]) -> int:
        """The most that tensors held on the device during one run, in PyTorch's own count."""
        self._torch.cuda.reset_peak_memory_stats()
        self.run_ms(inputs)
        return int(self._torch.cuda.max_memory_allocated())

    def close(self) -> None:
        """Gives the device's memory back, PyTorch's cache included."""
        del self._model
        self._torch.cuda.empty_cache()


def _configured(library: Any, values: Any) -> Any:
    """Tables of a recipe that name a `class` become an instance of it, inside out."""
    if not isinstance(values, dict):
        return values
    given = {key: _configured(library, value) for key, value in values.items()}
    name = given.pop("class", None)
    return getattr(library, name)(**given) if name else given
