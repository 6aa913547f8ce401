"""Routes below /flashmem-lab: devices, runs, graphs and traces of files the server may show."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from flashmem_lab.errors import UsageError
from flashmem_lab.server.phones import Phones
from flashmem_lab.worker.board import ask_to_stop, notices

SECONDS = 120
"""A piece of work that takes longer is ended; the largest model of the zoo opens in about five."""

_KEPT = 8  # answers, of about a megabyte for ten thousand nodes


def add_handlers(app: web.Application) -> None:
    """Adds the routes to Jupyter's server."""
    base, worker = app.settings["base_url"], Worker()
    app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "flashmem-lab", "devices"), Devices, {"worker": worker}),
            (url_path_join(base, "flashmem-lab", "phones"), PhonesNow, {"phones": Phones()}),
            (
                url_path_join(base, "flashmem-lab", "(graph|node|timeline)"),
                File,
                {"worker": worker},
            ),
            (url_path_join(base, "flashmem-lab", "jobs"), Jobs),
            (url_path_join(base, "flashmem-lab", "jobs", r"([\d-]+)", "stop"), Stop),
        ],
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child process gave.

    Attributes:
        status: 200, or 422 for a file that is not what it should be, or 500 after a crash.
        body: what was asked for, or a JSON object with `message` and `hint`.
    """

    status: int
    body: bytes


class Worker:
    """Runs child processes, two at a time, and keeps the latest answers on files."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(2)
        self._kept: OrderedDict[tuple[str, ...], Answer] = OrderedDict()

    async def file(self, what: str, path: Path, *arguments: str) -> Answer:
        """Work on a file; asked again, the same answer until the file changes."""
        state = path.stat()
        key = (what, str(path), str(state.st_mtime_ns), str(state.st_size), *arguments)
        if key not in self._kept:
            answer = await self.run(what, str(path), *arguments)
            if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                return answer
            self._kept[key] = answer
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    async def run(self, *arguments: str) -> Answer:
        """One piece of `flashmem_lab.server.child`'s work."""
        async with self._room:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flashmem_lab.server.child", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                body, said = await asyncio.wait_for(child.communicate(), SECONDS)
            except TimeoutError:
                return _failure(f"{arguments[0]} took longer than {SECONDS} s", "try again")
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode == 0:
            return Answer(HTTPStatus.OK, body)
        if child.returncode == 1 and body.startswith(b"{"):
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, body)
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        return _failure(
            f"reading the {arguments[0]} ended with exit code {child.returncode}"
            + "".join(f": {line}" for line in last),
            "`flashmem-lab doctor` in a terminal says what works on this machine",
        )


def _failure(message: str, hint: str) -> Answer:
    body = json.dumps({"message": message, "hint": hint}).encode()
    return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, body)


class _Handler(APIHandler):
    """What both routes share: the worker, and how an answer is sent."""

    def initialize(self, worker: Worker) -> None:
        self.worker = worker

    def send(self, answer: Answer) -> None:
        """Ends the request with an answer."""
        self.set_status(answer.status)
        kind = "application/json" if answer.body[:1] in b"{[" else "application/octet-stream"
        self.finish(answer.body, set_content_type=kind)


class Devices(_Handler):
    """GET: OpenCL devices, each tried with a kernel, phones, and the simulated ones."""

    @web.authenticated
    async def get(self) -> None:
        """A JSON list of {id, name, problem, transport}."""
        self.send(await self.worker.run("devices"))


class PhonesNow(APIHandler):
    """GET: the phones that there are now; cheap enough to be asked every few seconds."""

    def initialize(self, phones: Phones) -> None:
        """Takes what the handlers share."""
        self.phones = phones

    @web.authenticated
    async def get(self) -> None:
        """A JSON list of {id, name, problem, transport}."""
        self.finish(json.dumps(await asyncio.to_thread(self.phones.now)))


class Jobs(APIHandler):
    """GET: the user's runs under way, whichever kernel they belong to."""

    @web.authenticated
    async def get(self) -> None:
        """A JSON list; see `notices`. Small files are read, no driver is asked."""
        self.finish(json.dumps(notices()))


class Stop(APIHandler):
    """POST: asks for a run to stop."""

    @web.authenticated
    async def post(self, notice: str) -> None:
        """Nothing, or 404 where no such run is under way any more."""
        try:
            ask_to_stop(notice)
        except UsageError as error:
            raise web.HTTPError(HTTPStatus.NOT_FOUND, error.message) from None
        self.set_status(HTTPStatus.NO_CONTENT)


class File(_Handler):
    """GET graph?path=, node?path=&node=, timeline?path=; paths are those of Jupyter's contents."""

    @web.authenticated
    async def get(self, what: str) -> None:
        """A buffer of views/wire.py, or a JSON list of sections for a node."""
        path = self._inside(self.get_query_argument("path"))
        arguments = []
        if what == "node":
            index = self.get_query_argument("node")
            if not index.isdecimal():
                raise web.HTTPError(HTTPStatus.BAD_REQUEST, f"no node has the number {index!r}")
            arguments.append(index)
        self.send(await self.worker.file(what, path, *arguments))

    def _inside(self, path: str) -> Path:
        """The file, if it is one that Jupyter's own file browser would show."""
        root = Path(self.settings["server_root_dir"]).expanduser().resolve()
        manager: Any = self.contents_manager
        try:
            found = (root / path.lstrip("/")).resolve(strict=True)
            inside = found.relative_to(root)
        except (OSError, ValueError):
            raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is no file {path}") from None
        hidden = any(part.startswith(".") for part in inside.parts)
        if not found.is_file() or (hidden and not manager.allow_hidden):
            raise web.HTTPError(HTTPStatus.NOT_FOUND, f"there is no file {path}")
        return found
