"""Phones as they come and go: what the adb server tells whoever stays connected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.client import Attached, Client
from flashmem_lab.runtime.adb.device import Phone, ask_phone, troubles, unusable, with_problem
from flashmem_lab.runtime.adb.loop import shared_loop
from flashmem_lab.runtime.adb.server import is_wanted

Changed = Callable[[list[Phone]], None]
"""Given every phone there is; called in a thread of the watch's, and must return at once."""

ASKING = "it is being asked what it can do"
"""The problem of a phone that has just come."""

_AGAIN_SECONDS = 2.0  # until a phone is asked for again, or a server that was stopped


class Watch:
    """Tells of phones until it is closed, and at first of those that are there.

    A phone that is new is told of before it was asked what it can do, and again afterwards; one
    that hangs keeps nobody waiting. The adb server is started once. When somebody stops it later it
    stays so, and is listened to again when it is back. Where adb is to be left alone there are no
    phones.

    Args:
        changed: told of all phones whenever anything about them is another.
        cache: folder where it is kept what phones can do.
        client: of the adb server; by default the user's.
    """

    def __init__(self, changed: Changed, cache: Path, client: Client | None = None) -> None:
        self._changed, self._cache = changed, cache
        self._phones: dict[str, Phone] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: set[str] = set()
        self._troubled = False
        self._told: list[Phone] | None = None
        self._closed = False
        self._following: Future[None] | None = None
        if is_wanted(os.environ):
            self._following = shared_loop().start(self._follow(client or Client()))
        else:
            changed([])

    def close(self) -> None:
        """Stops telling, at once."""
        self._closed = True
        if self._following is not None:
            self._following.cancel()

    async def _follow(self, client: Client) -> None:
        start = True
        looking = asyncio.create_task(self._look_again(client))
        try:
            while True:
                try:
                    async for attached in client.track(start=start):
                        self._see(client, attached)
                except DeviceError:
                    self._see(client, [])
                start = False
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            for task in (looking, *self._asking.values()):
                task.cancel()

    async def _look_again(self, client: Client) -> None:
        """Asks for phones that cannot be used yet: the server is silent on what becomes of them."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            if self._troubled:
                with suppress(DeviceError):  # `_follow` hears of that too
                    self._see(client, await client.devices(start=False))

    def _see(self, client: Client, attached: Sequence[Attached]) -> None:
        """Takes a list of the server's: keeps what is known, asks what is new."""
        problems = troubles(attached)
        self._troubled = bool(problems)
        usable = {one.serial for one in attached} - problems.keys()
        for serial in self._asking.keys() - usable:
            self._asking.pop(serial).cancel()
        before, self._phones = self._phones, {}
        for one in attached:
            if error := problems.get(one.serial):
                self._phones[one.serial] = with_problem(one, error)
            elif one.serial in self._asking or one.serial in self._asked:
                self._phones[one.serial] = before[one.serial]
            else:
                self._phones[one.serial] = unusable(one, ASKING)
                self._asking[one.serial] = asyncio.create_task(self._ask(client, one))
        self._asked &= usable
        self._tell()

    async def _ask(self, client: Client, one: Attached) -> None:
        """Asks a phone in a thread, since that takes a program on it and waits for that."""
        phone = await asyncio.to_thread(ask_phone, one, self._cache, client)
        del self._asking[one.serial]
        self._asked.add(one.serial)
        self._phones[one.serial] = phone
        self._tell()

    def _tell(self) -> None:
        phones = list(self._phones.values())
        if phones != self._told and not self._closed:
            self._told = phones
            self._changed(phones)
