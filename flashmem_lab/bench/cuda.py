"""What an NVIDIA GPU takes without us, by way of PyTorch where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter

import numpy as np

_PIECE_BYTES = 1 << 24


def cuda_works() -> bool:
    """True if PyTorch is installed and sees a CUDA device."""
    if find_spec("torch") is None:
        return False
    return bool(import_module("torch").cuda.is_available())


def cuda_products(a: np.ndarray, w: np.ndarray) -> Mapping[str, Callable[[], float]]:
    """Functions that compute a @ w once on the device and give its time by CUDA's events, ns.

    By name: in fp32, and with operands rounded to TF32. The operands stay on the device.
    """
    torch = import_module("torch")
    left, right = torch.from_numpy(a).cuda(), torch.from_numpy(w).cuda()

    def product_ns(tf32: bool) -> float:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.matmul(left, right)  # so that the clock does not start before the device is busy
        began.record()
        torch.matmul(left, right)
        ended.record()
        ended.synchronize()
        return float(began.elapsed_time(ended)) * 1e6  # from ms

    return {
        "cuBLAS fp32": lambda: product_ns(tf32=False),
        "cuBLAS TF32": lambda: product_ns(tf32=True),
    }


def copying_ms(size: int) -> float:
    """Time of copying `size` bytes from pinned host memory to the device, piece after piece."""
    torch = import_module("torch")
    piece = min(size, _PIECE_BYTES)
    source = torch.empty(piece, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(piece, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    began = perf_counter()
    for at in range(0, size, _PIECE_BYTES):
        count = min(piece, size - at)
        target[:count].copy_(source[:count], non_blocking=True)
    torch.cuda.synchronize()
    return (perf_counter() - began) * 1e3
