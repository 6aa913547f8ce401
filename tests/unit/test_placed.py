"""Kernels rewritten to find their operands in one buffer."""

from flashmem_lab.program.carry import MOVER
from flashmem_lab.program.placed import Number, Told, numbers, placed
from flashmem_lab.program.program import KernelSource

KERNEL = KernelSource(
    "scale",
    """#define W_AT(x, y) read_imagef(w, (int2)(x, y))
#define W2_AT(x, y) read_imagef(w2, (int2)(y, x))
__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void scale(
    __global float* restrict out,
    __read_only image2d_t w,
    const int n, __global const half* x, __read_only image2d_t w2) {
  out[get_global_id(0)] = n * W_AT(0, 1).x * W2_AT(2, 3).y;
}
""",
)


def _arguments(source: str) -> list[str]:
    begin = source.index("void scale(") + len("void scale(")
    listed = source[begin : source.index(") {", begin)]
    return [" ".join(one.split()) for one in listed.split(",")]


def test_each_pointer_to_a_buffer_gets_a_number() -> None:
    assert numbers(KERNEL, lines=False) == (Number(0, Told.BEGIN), Number(3, Told.BEGIN))
    source = placed(KERNEL, lines=False).source
    assert _arguments(source)[-2:] == ["const ulong place0", "const ulong place1"]
    begin, end = source.index(") {"), source.index("out[get_global_id(0)]")
    lines = [line.strip() for line in source[begin:end].splitlines()[1:] if line.strip()]
    assert lines == [
        "out = (__global float*)((__global char*)out + place0);",
        "x = (__global const half*)((__global const char*)x + place1);",
    ]


def test_each_image_in_a_line_of_texels_gets_two() -> None:
    told = numbers(KERNEL, lines=True)
    assert [(one.argument, one.type) for one in told] == [
        (0, "ulong"),
        (1, "int"),
        (1, "int"),
        (3, "ulong"),
        (4, "int"),
        (4, "int"),
    ]
    source = placed(KERNEL, lines=True).source
    arguments = _arguments(source)
    assert arguments[1] == "__read_only image1d_buffer_t w"
    assert arguments[4] == "__read_only image1d_buffer_t w2"
    assert arguments[5:] == [f"const {one.type} place{at}" for at, one in enumerate(told)]
    assert "#define w_texel(at) read_imagef(w, texel_at(at, place1, place2))" in source
    assert "#define w2_texel(at) read_imagef(w2, texel_at(at, place4, place5))" in source
    assert "#define W_AT(x, y) w_texel((int2)(x, y))" in source
    assert "#define W2_AT(x, y) w2_texel((int2)(y, x))" in source


def test_its_own_arguments_and_statements_stay() -> None:
    source = placed(KERNEL, lines=False).source
    for kept in ("reqd_work_group_size(8, 1, 1)", "image2d_t w", "const int n", "= n * W_AT"):
        assert kept in source


def test_a_kernel_without_operands_computes_as_before() -> None:
    for lines in (False, True):
        assert numbers(MOVER, lines=lines) == ()
        assert placed(MOVER, lines=lines).source.split() == MOVER.source.split()
