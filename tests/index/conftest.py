from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.pacs_index import PacsIndex
from tests.databases import PostgreSQL, private_postgresql

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    yield from private_postgresql()


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'index.sqlite'}"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def database_url(empty_url: str) -> str:
    create_or_upgrade(empty_url)
    return empty_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def index(database: Database) -> PacsIndex:
    return PacsIndex(database)


@pytest.fixture
def another_url(empty_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes further empty databases of the same kind."""
    if empty_url.startswith("sqlite"):
        return lambda: f"sqlite:///{tmp_path / 'another.sqlite'}"
    return request.getfixturevalue("postgresql").new_database
