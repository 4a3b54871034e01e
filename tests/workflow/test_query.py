"""What a query promises: the standard's rules for identifiers, and pages that end where they should."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset, Element
from pacsd.model.errors import OutOfResources
from pacsd.model.query import Page, Query, Root
from pacsd.workflow.query import FIRST_PAGE, PAGE_SIZE, Abilities, IdentifierRefused, pages, typed_query
from tests.workflow.immediate import ImmediateOffload, everything, finish

LEVEL, PATIENT_ID, STUDY_UID, SERIES_UID = 0x00080052, 0x00100020, 0x0020000D, 0x0020000E
ALL = Abilities(True, True, True, True)


def identifier(level: str | None, **keywords: str) -> Dataset:
    given_keys = dict(Dataset.from_keywords(**keywords).items())
    if level is not None:
        given_keys[LEVEL] = Element("CS", (level,))
    return Dataset(given_keys)


@pytest.mark.parametrize(
    ("root", "level", "above"),
    [
        (Root.PATIENT, Level.PATIENT, {}),
        (Root.PATIENT, Level.STUDY, {"PatientID": "1"}),
        (Root.PATIENT, Level.SERIES, {"PatientID": "1", "StudyInstanceUID": "1.2"}),
        (Root.PATIENT, Level.IMAGE,
         {"PatientID": "1", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}),
        (Root.STUDY, Level.STUDY, {}),
        (Root.STUDY, Level.SERIES, {"StudyInstanceUID": "1.2"}),
        (Root.STUDY, Level.IMAGE, {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}),
        (Root.PATIENT_STUDY_ONLY, Level.PATIENT, {}),
        (Root.PATIENT_STUDY_ONLY, Level.STUDY, {"PatientID": "1"}),
    ],
)  # fmt: skip
def test_each_level_of_each_root_takes_its_unique_keys_above(root: Root, level: Level, above: dict[str, str]) -> None:
    assert typed_query(root, identifier(level.name, **above)).level is level
    for left_out in above:
        fewer = {keyword: value for keyword, value in above.items() if keyword != left_out}
        with pytest.raises(IdentifierRefused) as refused:
            typed_query(root, identifier(level.name, **fewer))
        assert refused.value.dicom_status == 0xA900
        assert typed_query(root, identifier(level.name, **fewer), ALL).relational


@pytest.mark.parametrize(
    ("root", "level"),
    [(Root.STUDY, "PATIENT"), (Root.PATIENT_STUDY_ONLY, "SERIES"), (Root.PATIENT_STUDY_ONLY, "IMAGE"),
     (Root.PATIENT, "FRAME"), (Root.PATIENT, ""), (Root.PATIENT, None)],
)  # fmt: skip
def test_a_level_outside_the_root_is_refused_and_named(root: Root, level: str | None) -> None:
    with pytest.raises(IdentifierRefused) as refused:
        typed_query(root, identifier(level, PatientID="1"))
    assert refused.value.offending == (LEVEL,)


@pytest.mark.parametrize("uids", ["1.2\\1.3", "1.*", "*"])
def test_a_unique_key_above_the_level_must_be_one_value(uids: str) -> None:
    keys = Dataset({LEVEL: Element("CS", ("SERIES",)), STUDY_UID: Element("UI", tuple(uids.split("\\")))})
    with pytest.raises(IdentifierRefused) as refused:
        typed_query(Root.STUDY, keys)
    assert refused.value.offending == (STUDY_UID,)


def test_level_charset_and_group_lengths_are_no_keys() -> None:
    received = Dataset(
        {
            0x00080000: Element("UL", (40,)),
            0x00080005: Element("CS", ("ISO_IR 100",)),
            LEVEL: Element("CS", ("study ",)),
            0x00100000: Element("UL", (10,)),
            0x00100010: Element("PN", ("DOE*",)),
        }
    )
    query = typed_query(Root.STUDY, received, limit=7)
    assert set(query.keys) == {0x00100010}
    assert query.limit == 7


def test_abilities_are_the_four_bytes_of_the_standard_in_their_order() -> None:
    assert Abilities.of(b"") == Abilities()
    assert Abilities.of(b"\x01\x00") == Abilities(relational=True)
    assert Abilities.of(b"\x00\x01\x01\x01\x01") == Abilities(False, True, True, True)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("+0100", 60), ("-0330", -210), ("+1400", 840), ("+1500", None), ("0100", None), ("+01:00", None), ("+0175", None),
     ("", None)],
)  # fmt: skip
def test_the_requesters_timezone_counts_only_where_negotiated(text: str, minutes: int | None) -> None:
    received = identifier("STUDY", TimezoneOffsetFromUTC=text)
    assert typed_query(Root.STUDY, received, ALL).utc_offset_minutes == minutes
    assert typed_query(Root.STUDY, received).utc_offset_minutes is None


class CountingIndex:
    """Has `n` answers; remembers how many were asked for at once."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked: list[int] = []

    def search(self, query: Query, cursor: Sequence[int | str] | None, page_size: int) -> Page:
        self.asked.append(page_size)
        start = int(cursor[0]) if cursor else 0
        end = min(self.n, start + page_size)
        found = tuple(Dataset({0x00200010: Element("SH", (str(i),))}) for i in range(start, end))
        return Page(found, False, (end,) if end < self.n else None)


@given(n=st.integers(0, 2000), limit=st.none() | st.integers(0, 2000))
def test_every_answer_up_to_the_limit_comes_once_and_in_order(n: int, limit: int | None) -> None:
    index = CountingIndex(n)
    found = finish(everything(pages(Query(Root.STUDY, Level.STUDY, limit=limit), index, ImmediateOffload())))
    answers = [match.text(0x00200010) for page in found for match in page.matches]
    assert answers == [str(i) for i in range(min(n, n if limit is None else limit))]
    assert max(index.asked, default=0) <= PAGE_SIZE


def test_the_first_page_is_small_so_that_the_first_answer_is_early() -> None:
    index = CountingIndex(10_000)
    finish(everything(pages(Query(Root.STUDY, Level.STUDY), index, ImmediateOffload())))
    assert index.asked[0] == FIRST_PAGE


def test_a_cancelled_query_searches_no_further() -> None:
    index = CountingIndex(10_000)
    seen: list[Page] = []

    async def cancel_after_first() -> None:
        query = Query(Root.STUDY, Level.STUDY)
        async for page in pages(query, index, ImmediateOffload(), cancelled=lambda: bool(seen)):
            seen.append(page)  # noqa: PERF401 - what was seen cancels

    finish(cancel_after_first())
    assert len(seen) == len(index.asked) == 1


def test_a_database_that_cannot_serve_is_told_as_it_is() -> None:
    offload = ImmediateOffload()
    offload.refusals.append(OutOfResources("database is away"))
    with pytest.raises(OutOfResources, match="away"):
        finish(everything(pages(Query(Root.STUDY, Level.STUDY), CountingIndex(1), offload)))
