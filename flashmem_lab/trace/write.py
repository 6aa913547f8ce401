"""Writing a whole file or nothing."""

from __future__ import annotations

from pathlib import Path

from flashmem_lab.errors import from_os_error
from flashmem_lab.program.container import replacing


def write_file(path: Path, content: bytes | str, doing: str) -> None:
    """Writes a file so that it is complete or as it was before.

    Args:
        path: the file; missing folders are made.
        content: bytes, or text that becomes UTF-8.
        doing: what this is, for the error message ("writing the trace").

    Raises:
        DiskFull: the disk has no room.
        FlashMemError: the file cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, doing) from error
    with replacing(path, doing, lasting=False) as file:
        file.write(data)
