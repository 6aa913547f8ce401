"""The Jupyter server extension: what JupyterLab shows before and beside a kernel."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "flashmem_lab.server"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from flashmem_lab.server.handlers import add_handlers

    add_handlers(server.web_app)
    server.log.info("flashmem_lab.server is loaded")
