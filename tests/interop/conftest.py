"""Sites for tests with real peers: one for the session, shared by tests that use patients of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop import dcmtk
from tests.interop.objects import published_files
from tests.live import Site, free_ports

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here talks to real peers."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("interop") / "site", workers=1) as running:
        yield running


@pytest.fixture(scope="session")
def samples() -> dict[str, list[Path]]:
    """Images of each transfer syntax, pydicom's own and the corpus'."""
    found: dict[str, list[Path]] = {}
    for path in published_files():
        found.setdefault(dcmtk.syntax_of(path), []).append(path)
    return found


@pytest.fixture
def patient_id(request: pytest.FixtureRequest) -> str:
    """An ID that no other test uses."""
    return f"P{next(_numbers):04}"


@pytest.fixture
def new_peer(site: Site) -> Callable[..., tuple[str, int]]:
    """Register a peer with a title and a free port of its own; gives both."""

    def register(**options: object) -> tuple[str, int]:
        title, (port,) = f"PEER{next(_numbers)}", free_ports(1)
        site.add_peer(title, port, **options)
        return title, port

    return register
