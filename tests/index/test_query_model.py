"""search() finds exactly what a plain filter by the same matchers finds, over generated data and keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.pacs_index import PacsIndex
from pacsd.model.attributes import BY_TAG, MODALITIES_IN_STUDY, Level
from pacsd.model.dataset import Dataset, Element
from pacsd.model.matching import TIME_OF_DATE, compile_key, compile_pair
from pacsd.model.query import Query, Root
from tests.index.conftest import BOTH
from tests.index.objects_made import TAGS, new_instance

NAMES = [
    "",
    "Doe^Jane",
    "Doe^Ann=Doe^Ännchen",
    "doe^JOHN",
    "Doering^A",
    "Müller^Jörg",
    "O'Neil^Z",
    "Yamada^T=山田^太郎=やまだ^たろう",
    "Dö",
]
DATES = ["", "20260101", "20260102", "20260131", "20251231", "2026.01.02"]
STUDY = st.fixed_dictionaries({
    "PatientID": st.sampled_from(["", "P1", "P2", "p1", "P10", "Q*"]),
    "IssuerOfPatientID": st.sampled_from(["", "X"]),
    "PatientName": st.sampled_from(NAMES),
    "StudyDate": st.sampled_from(DATES),
    "StudyTime": st.sampled_from(["", "08", "0830", "120000.5"]),
    "AccessionNumber": st.sampled_from(["", "A1", "A12", "B"]),
    "ReferringPhysicianName": st.sampled_from(NAMES),
    "Modality": st.sampled_from(["", "CT", "MR", "CT\\SR"]),
    "SeriesDescription": st.sampled_from(["", "axial", "Axial 2"]),
    "InstanceNumber": st.sampled_from(["", "1", "01", "2"]),
})  # fmt: skip
NAME_KEYS = ["", "*", "DOE*", "d*", "doe^jane", "*jane", "^j*", "山田*", "mü*", "d?", "Doe^Jane\\dö", "=山田", '""']


def _some(values: dict[str, st.SearchStrategy[str]], n: int) -> st.SearchStrategy[dict[str, str]]:
    """At most `n` keys: of many at once nothing would ever be found."""
    keyed = [st.tuples(st.just(keyword), value) for keyword, value in values.items()]
    return st.lists(st.one_of(keyed), max_size=n).map(dict)


KEYS = _some({
    "PatientID": st.sampled_from(["", "P1", "P*", "?1", "P1\\P2", '""', "Q*"]),
    "IssuerOfPatientID": st.sampled_from(["X", '""']),
    "PatientName": st.sampled_from(NAME_KEYS),
    "StudyDate": st.sampled_from(["20260102", "20260101-20260115", "20260102-", "-20260101", "2026", '""']),
    "StudyTime": st.sampled_from(["08", "0800-1200", "1000-", "-0829"]),
    "AccessionNumber": st.sampled_from(["A1", "A*", "A1\\B", '""']),
    "ReferringPhysicianName": st.sampled_from(NAME_KEYS),
    "ModalitiesInStudy": st.sampled_from(["CT", "MR\\SR", "C*", '""']),
}, 3)  # fmt: skip
BELOW = _some({
    "Modality": st.sampled_from(["CT", "*R", "MR\\CT"]),
    "SeriesDescription": st.sampled_from(["axial", "Ax*", '""']),
    "InstanceNumber": st.sampled_from(["1", "2"]),
}, 1)  # fmt: skip


@pytest.fixture(scope="module", params=BOTH)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('model')) / 'index.sqlite'}"
    else:
        url = request.getfixturevalue("postgresql").new_database()
    create_or_upgrade(url)
    database = Database(url)
    yield database
    database.close()


def _emptied(database: Database) -> PacsIndex:
    tables = "location instance_head instance series study_modality study patient_name patient_name_token patient"

    def empty(connection: Any) -> None:
        for table in tables.split():
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names from above

    database.write(empty)
    return PacsIndex(database)


def _expected(
    studies: list[dict[str, str]], keys: dict[str, str], below: dict[str, str], *, combined: bool, fuzzy: bool
) -> list[str]:
    """Each study has one patient record of its own unless an ID is shared: then the first one's demographics."""
    patients: dict[tuple[str, str, str], dict[str, str]] = {}
    found = []
    asked = Dataset.from_keywords(**keys, **below)
    for number, study in enumerate(studies):
        key = (study["PatientID"], study["IssuerOfPatientID"], "" if study["PatientID"] else str(number))
        patient = patients.setdefault(key, dict(study))
        patient["PatientName"] = patient["PatientName"] or study["PatientName"]
    for number, study in enumerate(studies):
        key = (study["PatientID"], study["IssuerOfPatientID"], "" if study["PatientID"] else str(number))
        held = {**study, "PatientName": patients[key]["PatientName"]}
        if _matches(asked, held, combined=combined, fuzzy=fuzzy):
            found.append(f"1.{number}")
    return sorted(found)


def _matches(asked: Dataset, held: dict[str, str], *, combined: bool, fuzzy: bool) -> bool:
    stored = {TAGS[keyword]: (value,) if value else () for keyword, value in held.items()}
    stored[MODALITIES_IN_STUDY] = tuple(part for part in held["Modality"].split("\\") if part)
    paired: set[int] = set()
    if combined:
        for date, time in TIME_OF_DATE.items():
            if date in asked and time in asked:
                pair = compile_pair(date, asked[date].value, asked[time].value)
                if pair is not None:
                    paired |= {date, time}
                    if not pair.matches(stored[date], stored[time]):
                        return False
    for tag, element in asked.items():
        vr = BY_TAG[tag].vr if tag in BY_TAG else element.vr
        matcher = compile_key(tag, vr, element.value, fuzzy=fuzzy)
        if tag not in paired and matcher is not None and not matcher.matches(stored[tag]):
            return False
    return True


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    studies=st.lists(STUDY, min_size=1, max_size=8),
    asked=st.lists(st.tuples(KEYS, BELOW, st.booleans(), st.booleans()), min_size=1, max_size=8),
    page_size=st.integers(1, 5),
)
def test_search_finds_what_a_plain_filter_finds(
    shared: Database,
    studies: list[dict[str, str]],
    asked: list[tuple[dict[str, str], dict[str, str], bool, bool]],
    page_size: int,
) -> None:
    index = _emptied(shared)
    for number, values in enumerate(studies):
        index.record([new_instance(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1", **values)])
    for keys, below, combined, fuzzy in asked:
        identifier = Dataset.from_keywords(**keys, **below)
        expected = _expected(studies, keys, below, combined=combined, fuzzy=fuzzy)
        for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
            query = Query(
                Root.STUDY,
                level,
                Dataset({**identifier, TAGS["StudyInstanceUID"]: Element("UI")}),
                relational=True,
                combined_datetime=combined,
                fuzzy=fuzzy,
            )
            found: list[str] = []
            cursor = None
            while True:
                page = index.search(query, cursor, page_size)
                found += [match.text(TAGS["StudyInstanceUID"]) for match in page.matches]
                cursor = page.cursor
                if cursor is None:
                    break
            assert sorted(found) == expected, (level, keys, below)
