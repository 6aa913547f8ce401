"""Frames: what goes over a `Link`, in both directions; agent/frames.c is the other end.

A frame is a tag of four letters, u32 bytes of its head, u64 bytes of its body, the head (a JSON
object, or nothing) and the body (bytes as they are). Integers are little-endian.

From us:
    OPEN  {program, weights: [...], kernels}   paths on the machine; kernels: folder of binaries;
                                               weights: null where the program is not to run
    INPT  {command} + array                    what an input or a row fetch gets; kept for all runs
    RUN   {outputs}                            once; whether outputs are wanted back
    VALS  + arrays                             the answer to CALL
    SHUT                                       closes the program
    PING                                       whether it is still there
From the agent:
    HELO  {protocol, device: {...}}            first of all
    BUIL  {done, of}                           kernels built
    OPND  {model, compiled, compile_ns, arena}
    STAT  {layer, texture, buffer, staging}    now and then while a run goes on
    CALL  {command} + arrays                   a node that we are to compute
    OUTP  {command} + array
    DONE  {start, end, held_peak, notes}       the run is over
          + i64 records                        notes, that many bytes: id, start, end and queued (or
                                               -1) of each command, ns; then time and resident set
    SHUT                                       the program is closed
    PONG
    FAIL  {kind, message}                      and the agent ends
The end of our side of the link ends the agent, whatever it does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.link import Link

_WIRE = struct.Struct("<4sIQ")
_MOST_HEAD = 1 << 20
_MOST_BODY = 1 << 33


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame.

    Attributes:
        tag: four letters.
        head: its JSON object.
        body: its bytes.
    """

    tag: str
    head: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | memoryview = b""


def send(link: Link, frame: Frame) -> None:
    """Writes a frame.

    Raises:
        LinkClosed: the agent is gone.
    """
    head = json.dumps(frame.head, separators=(",", ":")).encode() if frame.head else b""
    link.write(_WIRE.pack(frame.tag.encode(), len(head), len(frame.body)) + head)
    if frame.body:
        link.write(bytes(frame.body))


def receive(link: Link) -> Frame:
    """Reads the next frame.

    Raises:
        LinkClosed: the agent is gone.
        DeviceError: what it says is no frame.
    """
    tag, head_bytes, body_bytes = _WIRE.unpack(link.read(_WIRE.size))
    if not tag.isascii() or head_bytes > _MOST_HEAD or body_bytes > _MOST_BODY:
        raise DeviceError("the agent on the device says something that makes no sense")
    raw = link.read(head_bytes) if head_bytes else b"{}"
    try:
        head = json.loads(raw.decode(errors="replace"))
    except ValueError as error:
        raise DeviceError(f"the agent on the device says something unreadable: {error}") from error
    return Frame(tag.decode(), head, link.read(body_bytes) if body_bytes else b"")
