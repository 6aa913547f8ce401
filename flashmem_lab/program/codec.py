"""The bundle (.fmb): a Program and its packed weights in one file; BUNDLE.md is the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flashmem_lab.errors import BundleError, ModelError, PlanError, from_os_error
from flashmem_lab.program.check import check_program
from flashmem_lab.program.container import (
    ALIGNMENT,
    PREAMBLE_BYTES,
    WEIGHT_BUFFER,
    Frame,
    FrameError,
    align,
    check_room,
    encode_header,
    encode_preamble,
    has_magic,
    pad_to,
    read_frame,
    replacing,
    reserve,
)
from flashmem_lab.program.packed import Packed, checked_blocks
from flashmem_lab.program.program import PackedSpan, Program
from flashmem_lab.serial import from_plain, to_plain

MAGIC = b"FMLBUN\r\n"
PROGRAM_MAGIC = b"FMLPRG\r\n"
VERSION = 2
_DOING = "writing the bundle"


def write_bundle(program: Program, packed: Packed, path: Path) -> None:
    """Writes `program` and the weights that it names to `path`, whole or not at all.

    Every block is checked while it is copied. An existing bundle at `path` is replaced, anything
    else there is left alone.

    Args:
        program: its spans are those of `packed`.
        packed: the packed weights.
        path: the bundle to write.

    Raises:
        BundleError: something that is not a bundle is at `path`, or the weights are not the
            program's.
        CacheCorrupt: a packed block differs from its checksum.
        DiskFull: no room; nothing is left behind.
    """
    if packed.key != program.weights_key:
        raise BundleError("the packed weights are not those that the program was built for")
    places, data_bytes = _places(program.spans)
    header, plain_bytes = encode_header(to_plain(replace(program, spans=places)))
    data_offset = align(PREAMBLE_BYTES + len(header))
    preamble = encode_preamble(
        MAGIC,
        VERSION,
        header,
        plain_bytes,
        header_offset=PREAMBLE_BYTES,
        data_offset=data_offset,
        data_bytes=data_bytes,
        file_bytes=data_offset + data_bytes,
    )
    try:
        _refuse_other_files(path)
        check_room(path.parent, data_offset + data_bytes, _DOING)
        with (
            packed.path.open("rb") as source,
            replacing(path, _DOING, buffer_bytes=WEIGHT_BUFFER) as file,
        ):
            reserve(file, data_offset + data_bytes)
            file.write(preamble + header)
            for name, place in places.items():
                pad_to(file, data_offset + place.offset)
                blocks = checked_blocks(source, program.spans[name], weight=name, path=packed.path)
                for block in blocks:
                    file.write(block)
            pad_to(file, data_offset + data_bytes)
    except OSError as error:
        raise from_os_error(error, _DOING) from error


def write_program(program: Program, path: Path) -> None:
    """Writes `program` alone, for a device that has its weights in files of their own.

    Args:
        program: offsets of its spans count from the start of those files.
        path: the file to write, or to replace.

    Raises:
        DiskFull: no room; nothing is left behind.
    """
    header, plain_bytes = encode_header(to_plain(program))
    end = align(PREAMBLE_BYTES + len(header))
    preamble = encode_preamble(
        PROGRAM_MAGIC,
        VERSION,
        header,
        plain_bytes,
        header_offset=PREAMBLE_BYTES,
        data_offset=end,
        data_bytes=0,
        file_bytes=end,
    )
    with replacing(path, "writing the program") as file:
        file.write(preamble + header)
        file.truncate(end)


def read_bundle(path: Path) -> tuple[Program, Path]:
    """The program of a bundle, checked, and the file that holds its weights (the bundle itself).

    The offsets of the returned spans are bytes from the start of that file. Weight bytes are
    checked when they are read, or all at once by `verify(Packed(path, key, spans))`.

    Raises:
        BundleError: not a bundle, damaged, of another version, or not a sound program.
        FlashMemError: the file cannot be read.
    """
    hint = "make it again: flashmem-lab bundle MODEL --plan plan.json -o model.fmb"
    try:
        frame = read_frame(path, MAGIC, VERSION)
        program = from_plain(frame.header, Program)
        spans = {name: _absolute(name, span, frame) for name, span in program.spans.items()}
        program = replace(program, spans=spans)
        check_program(program)
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist") from None
    except OSError as error:
        raise from_os_error(error, "reading the bundle") from error
    except (PlanError, ModelError) as error:
        raise BundleError(f"{path}: {error.message}", hint=hint) from error
    except (FrameError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not a usable bundle: {error}", hint=hint) from error
    return program, path


def is_bundle(path: Path) -> bool:
    """Whether the file begins as a bundle; it may still be damaged.

    Raises:
        FlashMemError: the file cannot be read.
    """
    try:
        return has_magic(path, MAGIC)
    except OSError as error:
        raise from_os_error(error, "reading") from error


def _places(spans: Mapping[str, PackedSpan]) -> tuple[dict[str, PackedSpan], int]:
    """Spans with offsets from the start of the bundle's data section, and the section's bytes."""
    places: dict[str, PackedSpan] = {}
    end = 0
    for name, span in sorted(spans.items(), key=lambda item: item[1].offset):
        places[name] = replace(span, offset=end, file=0)
        end = align(end + span.bytes)
    return places, end


def _absolute(name: str, span: PackedSpan, frame: Frame) -> PackedSpan:
    """The span with its offset from the start of the file, if it lies inside the data section."""
    inside = span.offset >= 0 and span.bytes >= 0 and span.offset + span.bytes <= frame.data_bytes
    if not inside or span.offset % ALIGNMENT:
        raise FrameError(f"the bytes of weight {name!r} lie outside its data section")
    return replace(span, offset=frame.data_offset + span.offset)


def _refuse_other_files(path: Path) -> None:
    if path.is_dir():
        raise BundleError(f"{path} is a folder", hint="name a file, such as model.fmb")
    if path.exists() and not has_magic(path, MAGIC):
        raise BundleError(
            f"{path} exists and is not a bundle; it is left alone",
            hint="choose another name, or delete it yourself",
        )
