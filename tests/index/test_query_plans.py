"""The frequent queries use the indexes meant for them and read no table through, on both databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.engine import Connection

from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.schema import (
    DIRECTORY,
    INSTANCE,
    INSTANCE_HEAD,
    LOCATION,
    PATIENT,
    PATIENT_NAME,
    SERIES,
    STATION,
    STUDY,
    STUDY_MODALITY,
    UID,
)
from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset
from pacsd.model.query import Query, Root, Selector
from tests.index.conftest import BOTH

N_STUDIES = 20_000
N_PATIENTS = 10_000
LARGE = "patient|patient_name|study|study_modality|series|instance|instance_head|location"


def _fill(connection: Connection) -> None:
    """Two studies a patient, one series a study, one instance a series; 25 studies a day."""
    connection.execute(insert(UID), [{"id": 1, "uid": "1.2.840.10008.5.1.4.1.1.2"}, {"id": 2, "uid": "1.2.840"}])
    connection.execute(insert(STATION), [{"id": 1, "ae_title": "CT1"}])
    connection.execute(insert(DIRECTORY), [{"id": 1, "pool": "main", "path": "d"}])
    patients = [
        {"id": p, "patient_id": f"P{p:06}", "name": f"Name{p:06}^First", "n_studies": 2}
        for p in range(1, N_PATIENTS + 1)
    ]
    connection.execute(insert(PATIENT), patients)
    connection.execute(insert(PATIENT_NAME), [{"form": p["name"].lower(), "patient": p["id"]} for p in patients])
    studies = []
    for s in range(1, N_STUDIES + 1):
        day = s // 25
        date = f"{2024 + day // 336}{day % 336 // 28 + 1:02}{day % 28 + 1:02}"
        studies.append({
            "id": s, "patient": s % N_PATIENTS + 1, "study_uid": f"1.2.{s}", "study_date": date,
            "accession_number": f"A{s}", "modalities": ("CT", "MR", "US", "CR")[s % 4],
        })  # fmt: skip
    connection.execute(insert(STUDY), studies)
    listed = [{"modality": s["modalities"], "study_date": s["study_date"], "study": s["id"]} for s in studies]
    connection.execute(insert(STUDY_MODALITY), listed)
    connection.execute(
        insert(SERIES), [{"id": s["id"], "study": s["id"], "series_uid": f"{s['study_uid']}.1"} for s in studies]
    )
    instances = [
        {
            "id": s["id"], "series": s["id"], "sop_class": 1, "syntax": 2, "station": 1, "received_at": 0.0,
            "size_bytes": 1, "digest": s["id"].to_bytes(32, "big"), "sop_instance_uid": f"{s['study_uid']}.1.1",
        }
        for s in studies
    ]  # fmt: skip
    connection.execute(insert(INSTANCE), instances)
    heads = [{"instance": i["id"], "syntax": 2, "flags": "", "head": b""} for i in instances]
    connection.execute(insert(INSTANCE_HEAD), heads)
    connection.execute(insert(LOCATION), [{"instance": i["id"], "directory": 1, "digest": b""} for i in instances])


@pytest.fixture(scope="module", params=BOTH)
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('plans')) / 'index.sqlite'}"
    else:
        url = request.getfixturevalue("postgresql").new_database()
    create_or_upgrade(url)
    database = Database(url)
    database.write(_fill)
    if not database.is_sqlite:  # its own daemon does that; SQLite is used without
        database.write(lambda connection: connection.execute(text("ANALYZE")).close())
    yield database
    database.close()


def _plans(database: Database, call: Callable[[PacsIndex], Any]) -> list[str]:
    """The plans of all statements of a call."""
    statements: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        assert call(PacsIndex(database))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"

    def plan(connection: Connection, statement: str, parameters: Any) -> str:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)

    return [database.read(lambda c, s=s, p=p: plan(c, s, p)) for s, p in statements]


def _full_scans(plan: str) -> list[str]:
    return re.findall(rf"(?:Seq Scan on|SCAN) (?:{LARGE})\b.*", plan)


def _search(level: Level, *, page: int = 10, **keys: str) -> Callable[[PacsIndex], int]:
    query = Query(Root.STUDY, level, Dataset.from_keywords(**keys))

    def call(index: PacsIndex) -> int:
        first = index.search(query, None, page)
        if first.cursor is not None:
            index.search(query, first.cursor, page)
        return len(first.matches)

    return call


BACK = dict.fromkeys(("PatientName", "PatientID", "StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedSeries"), "")
STUDY_ASKED = {**BACK, "StudyInstanceUID": ""}


@pytest.mark.parametrize(
    ("call", "index_name"),
    [
        (_search(Level.STUDY, **{**STUDY_ASKED, "PatientID": "P000777"}), "uq_patient_patient_id_issuer_scope"),
        (_search(Level.STUDY, **{**STUDY_ASKED, "PatientID": "P0007*"}), "uq_patient_patient_id_issuer_scope"),
        (_search(Level.STUDY, **{**STUDY_ASKED, "PatientName": "NAME0001*"}), "pk_patient_name"),
        (_search(Level.STUDY, **{**STUDY_ASKED, "PatientName": "N*"}), "pk_patient_name"),
        (
            _search(Level.STUDY, **{**STUDY_ASKED, "StudyDate": "20240301-20240331", "ModalitiesInStudy": "CT"}),
            "pk_study_modality",
        ),
        (_search(Level.STUDY, **{**STUDY_ASKED, "StudyDate": "20240301-20240331"}), "ix_study_study_date_id"),
        (_search(Level.STUDY, **{**STUDY_ASKED, "StudyInstanceUID": "1.2.777"}), "uq_study_study_uid"),
        (_search(Level.STUDY, **{**STUDY_ASKED, "AccessionNumber": "A777"}), "ix_study_accession_number"),
        (
            _search(Level.SERIES, StudyInstanceUID="1.2.777", SeriesInstanceUID="", Modality=""),
            "uq_series_study_series_uid",
        ),
        (
            _search(Level.IMAGE, StudyInstanceUID="1.2.777", SeriesInstanceUID="1.2.777.1", SOPInstanceUID=""),
            "ix_instance_series_id",
        ),
        (
            _search(
                Level.IMAGE, StudyInstanceUID="1.2.777", SeriesInstanceUID="1.2.777.1", SOPInstanceUID="1.2.777.1.1"
            ),
            "uq_instance_sop_instance_uid",
        ),
        (_search(Level.STUDY, **{**STUDY_ASKED, "StudyInstanceUID": "1.2.777", "PatientAge": ""}), "pk_instance_head"),
        (lambda index: index.lookup(["1.2.777.1.1"]), "uq_instance_sop_instance_uid"),
        (lambda index: index.instances(Selector(study_uids=("1.2.777",)), 0, 100), "ix_instance_series_id"),
        (lambda index: index.instances(Selector(patient_ids=("P000777",)), 0, 100), "ix_study_patient"),
        (lambda index: index.missing([b"x" * 32]), "ix_instance_digest"),
        (lambda index: index.files(None, 100), "pk_location"),
    ],
)  # fmt: skip
def test_a_frequent_query_uses_its_index_and_reads_no_table_through(
    large: Database, call: Callable[[PacsIndex], Any], index_name: str
) -> None:
    plans = _plans(large, call)
    assert plans
    for plan in plans:
        assert _full_scans(plan) == [] or "pk_location" in index_name, plan
    if large.is_sqlite:
        # SQLite numbers the indexes of constraints; tables without rowid are their primary key
        index_name = {
            "uq_patient_patient_id_issuer_scope": "patient USING INDEX sqlite_autoindex_patient_1",
            "uq_study_study_uid": "study USING INDEX sqlite_autoindex_study_1",
            "uq_series_study_series_uid": "series USING INDEX sqlite_autoindex_series_1",
            "uq_instance_sop_instance_uid": "instance USING INDEX sqlite_autoindex_instance_1",
            "pk_patient_name": "patient_name USING PRIMARY KEY",
            "pk_study_modality": "study_modality USING PRIMARY KEY",
            "pk_instance_head": "instance_head USING INTEGER PRIMARY KEY",
            "pk_location": "location USING PRIMARY KEY",
        }.get(index_name, index_name)
    assert any(index_name in plan for plan in plans), plans


def test_pages_in_the_order_of_an_index_are_not_sorted(large: Database) -> None:
    calls = [
        _search(Level.STUDY, StudyInstanceUID="", PatientName="N*"),
        _search(Level.STUDY, StudyInstanceUID="", StudyDate="20240101-20261231"),
        _search(Level.STUDY, StudyInstanceUID="", StudyDate="20240101-20261231", ModalitiesInStudy="CT"),
    ]
    for call in calls:
        for plan in _plans(large, call):
            # the index gives the first columns; what is left to sort are the few rows that share them
            assert "TEMP B-TREE FOR ORDER BY" not in plan, plan
            assert not re.search(r"(?<!Incremental )Sort  ", plan), plan
