from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pacsd.index import migrate
from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.revision import SCHEMA_REVISION
from pacsd.index.schema import METADATA
from pacsd.model.errors import OutOfResources


def _in_any_order(sql: str) -> str:
    """Without quotes and line breaks; the parts between commas sorted, for a table's constraints have no order."""
    head, _, rest = " ".join(sql.replace('"', "").split()).partition("(")
    body, _, tail = rest.rpartition(")")
    parts = sorted(part.strip() for part in re.split(r",(?![^()]*\))", body))
    return f"{head}({', '.join(parts)}){tail}"


def _dump(database: Database) -> dict[str, list[tuple[str, ...]]]:
    """The catalogue's own description of tables, columns, constraints and indexes."""
    if database.is_sqlite:
        queries = ["SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite%'"]
    else:
        queries = [
            (
                "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name"
                " FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
            ),
            (
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
            ),
            (
                "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
                " AND tablename <> 'alembic_version'"
            ),
        ]
    return {
        query: sorted(
            tuple(_in_any_order(str(value)) for value in row)
            for row in database.read(lambda c, query=query: c.exec_driver_sql(query).all())
        )
        for query in queries
    }


def test_migrating_an_empty_database_gives_the_schema_of_the_metadata(
    empty_url: str, another_url: Callable[[], str]
) -> None:
    create_or_upgrade(empty_url)
    made = another_url()
    if made.startswith("sqlite"):
        Path(made.removeprefix("sqlite:///")).touch()
    migrated, created = Database(empty_url), Database(made)
    created.write(METADATA.create_all)
    try:
        assert _dump(migrated) == _dump(created)
        options = {"compare_type": True, "compare_server_default": True}
        difference = migrated.read(lambda c: compare_metadata(MigrationContext.configure(c, opts=options), METADATA))
        assert difference == []
    finally:
        migrated.close()
        created.close()


def test_several_that_upgrade_at_once_all_find_it_done(empty_url: str) -> None:
    failures: list[BaseException] = []

    def upgrade() -> None:
        try:
            create_or_upgrade(empty_url)
        except BaseException as failure:  # noqa: BLE001 - reported below
            failures.append(failure)

    threads = [threading.Thread(target=upgrade) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    create_or_upgrade(empty_url)
    database = Database(empty_url)
    assert database.read(migrate.current) == migrate.head()
    database.ready()
    database.close()


def test_a_database_without_our_schema_is_not_ready(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(OutOfResources):
        database.ready()
    database.close()


def test_the_revision_that_readiness_asks_for_is_the_newest_migration() -> None:
    assert migrate.head() == SCHEMA_REVISION
