"""Kernels rewritten to find their operands in one buffer."""

from flashmem_lab.program.carry import MOVER
from flashmem_lab.program.placed import placed, pointers
from flashmem_lab.program.program import KernelSource

KERNEL = KernelSource(
    "scale",
    """__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void scale(
    __global float* restrict out,
    __read_only image2d_t w,
    const int n, __global const half* x) {
  out[get_global_id(0)] = n;
}
""",
)


def test_each_pointer_to_a_buffer_gets_a_number() -> None:
    assert pointers(KERNEL) == (0, 3)
    source = placed(KERNEL).source
    listed = source[source.index("scale(") : source.index("{")]
    assert listed.rstrip(") ").endswith("const ulong place0,\n    const ulong place1")
    begin, end = source.index("{"), source.index("out[get_global_id(0)]")
    lines = [line.strip() for line in source[begin:end].splitlines()[1:] if line.strip()]
    assert lines == [
        "out = (__global float*)((__global char*)out + place0);",
        "x = (__global const half*)((__global const char*)x + place1);",
    ]


def test_its_own_arguments_and_statements_stay() -> None:
    source = placed(KERNEL).source
    for kept in ("reqd_work_group_size(8, 1, 1)", "image2d_t w", "const int n", "= n;\n}\n"):
        assert kept in source


def test_a_kernel_without_pointers_computes_as_before() -> None:
    assert pointers(MOVER) == ()
    assert placed(MOVER).source.split() == MOVER.source.split()
