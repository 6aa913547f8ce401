"""What some unit tests need besides Python."""

from __future__ import annotations

import pytest

from flashmem_lab.errors import FlashMemError
from flashmem_lab.views.static import static


@pytest.fixture(scope="session")
def front_end() -> None:
    """Fails in a line where the front end is not built; a skip would hide that from `make test`."""
    missing = ""
    try:
        static("graph.js")
    except FlashMemError as error:
        missing = str(error)
    if missing:  # said outside of the handler: pytest would print the chain of errors
        pytest.fail(missing, pytrace=False)
