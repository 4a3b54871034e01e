from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from pacsd.index.check import wrong_rows
from pacsd.index.database import Database
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.places import n_files_by_pool, places
from pacsd.index.schema import PATIENT, SERIES, STUDY
from pacsd.model.objects import ConflictRule
from tests.index.objects_made import new_instance


def test_every_place_that_a_row_names_is_given_and_no_other(index: PacsIndex, database: Database) -> None:
    first = new_instance(sop="1.1")
    other = new_instance(sop="1.2")
    aside = new_instance(sop="1.1", content="other bytes", directory="objects/2026/01/01/b-1")
    copy = replace(first.file, pool="second", directory="objects/2026/01/01/c-1")
    same_dataset = replace(first.file, digest=b"\x05" * 32, size_bytes=7)
    ids = [row.instance_id for row in index.record([first, other])]
    index.record_conflict(aside, ConflictRule.KEEP_BOTH)
    index.add_location(ids[0], copy)
    index.add_location(ids[0], same_dataset)
    asked = [first.file.digest, aside.file.digest, same_dataset.digest, b"\x09" * 32]
    found = database.read(lambda connection: places(connection, asked))
    assert {digest: set(files) for digest, files in found.items()} == {
        first.file.digest: {first.file, copy},
        aside.file.digest: {aside.file},
        same_dataset.digest: {same_dataset},
    }
    assert index.missing(asked) == set(asked) - set(found)
    assert database.read(n_files_by_pool) == {"main": 4, "second": 1}


def test_an_index_that_was_only_written_by_ingest_fits_together(index: PacsIndex, database: Database) -> None:
    index.record([new_instance(sop=f"1.{n}", series=f"1.2.{n % 2}", study=f"1.3.{n % 3}") for n in range(12)])
    index.record_conflict(new_instance(sop="1.1", content="new", study="1.9"), ConflictRule.REPLACE)
    assert database.read(wrong_rows) == {}


@pytest.mark.parametrize(
    ("table", "column", "n_wrong"),
    [
        (SERIES, "n_instances", 2),
        (STUDY, "n_series", 1),
        (STUDY, "n_instances", 2),
        (PATIENT, "n_studies", 1),
        (PATIENT, "n_instances", 1),
    ],
)
def test_a_wrong_count_is_found(index: PacsIndex, database: Database, table, column, n_wrong) -> None:
    """A wrong count of instances is also wrong against the count above it."""
    index.record([new_instance()])
    database.write(lambda c: c.execute(update(table).values({column: table.c[column] + 1})) and None)
    found = database.read(wrong_rows)
    assert len(found) == n_wrong
    assert set(found.values()) == {1}


def test_an_instance_without_a_file_is_found(index: PacsIndex, database: Database) -> None:
    new = new_instance()
    (row,) = index.record([new])
    index.forget_location(row.instance_id, new.file)
    assert database.read(wrong_rows) == {"instances without a file": 1}
