"""Code that nobody runs leaves the process, and comes back for whoever does."""

from __future__ import annotations

from uuid import uuid4

import psutil
import pyopencl as cl

from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl.code import forget_code
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.query import find


def resident_code() -> int:
    """Bytes of code in memory, of libraries that have much of it."""
    maps = psutil.Process().memory_maps(grouped=False)
    return sum(one.rss for one in maps if one.perms.startswith("r-x") and one.size >= 16 * 2**20)


def build(device: cl.Device) -> None:
    """Compiles a kernel that nobody has compiled before."""
    name = f"k{uuid4().hex}"
    source = f"kernel void {name}(global int* x) {{ x[get_global_id(0)] = 7; }}"
    Kernels(cl.Context([device]), device).build((KernelSource(name, source),))


def test_a_compilers_code_is_forgotten_and_runs_again(device_id: str) -> None:
    device = find(device_id)
    build(device)
    before = resident_code()
    assert forget_code() >= before
    left = resident_code()
    assert left <= before // 4
    build(device)
    assert (resident_code() > left) == (before > 0)
