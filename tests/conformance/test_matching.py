"""The matching kinds of PS3.4 §C.2.2.2 as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.dataset import Dataset, Element
from pacsd.model.matching import (
    TIME_OF_DATE,
    KeyRefused,
    compile_key,
    compile_keys,
    compile_pair,
    item_matches,
)

ID, NAME, DATE, TIME, MODALITY = 0x00100020, 0x00100010, 0x00080020, 0x00080030, 0x00080060
UID, ROWS, NUMBER, COMMENTS, STEPS = 0x0020000D, 0x00280010, 0x00200013, 0x00104000, 0x00400100


@pytest.mark.parametrize(
    ("section", "tag", "vr", "key", "stored", "found"),
    [
        ("C.2.2.2.1 single", ID, "LO", ("123",), ("123",), True),
        ("C.2.2.2.1 single", ID, "LO", ("123",), ("1234",), False),
        ("C.2.2.2.1 single, case-sensitive", ID, "LO", ("abc",), ("ABC",), False),
        ("C.2.2.2.1 single, padding", ID, "LO", ("abc ",), (" abc",), True),
        ("C.2.2.2.1 single, absent", ID, "LO", ("123",), (), False),
        ("C.2.2.2.1 single, one of several stored", 0x00080061, "CS", ("MR",), ("CT", "MR"), True),
        ("C.2.2.2.1 single, name case-insensitive", NAME, "PN", ("SMITH^john",), ("Smith^John",), True),
        ("C.2.2.2.1 single, number", NUMBER, "IS", ("01",), ("1",), True),
        ("C.2.2.2.1 single, number", NUMBER, "IS", ("1",), ("2",), False),
        ("C.2.2.2.1 single, binary number", ROWS, "US", (512,), (512,), True),
        ("C.2.2.2.1 single, binary number", ROWS, "US", (512,), ("256",), False),
        ("C.2.2.2.1 single, date", DATE, "DA", ("20040119",), ("20040119",), True),
        ("C.2.2.2.1 single, old date", DATE, "DA", ("20040119",), ("2004.01.19",), True),
        ("C.2.2.2.1 single, bad stored date", DATE, "DA", ("20040119",), ("yesterday",), False),
        ("C.2.2.2.1 single, time", TIME, "TM", ("1015",), ("101530.12",), True),
        ("C.2.2.2.2 list of UID", UID, "UI", ("1.2", "1.3"), ("1.3",), True),
        ("C.2.2.2.2 list of UID", UID, "UI", ("1.2\\1.3",), ("1.3",), True),
        ("C.2.2.2.2 list of UID", UID, "UI", ("1.2", "1.3"), ("1.33",), False),
        ("C.2.2.2.4 wild card", ID, "LO", ("12*",), ("1234",), True),
        ("C.2.2.2.4 wild card", ID, "LO", ("1?3",), ("123",), True),
        ("C.2.2.2.4 wild card", ID, "LO", ("1?3",), ("13",), False),
        ("C.2.2.2.4 wild card", ID, "LO", ("*4",), ("123",), False),
        ("C.2.2.2.4 wild card, case-sensitive", MODALITY, "CS", ("c*",), ("CT",), False),
        ("C.2.2.2.4 wild card, absent", ID, "LO", ("1*",), (), False),
        ("C.2.2.2.4 wild card, name", NAME, "PN", ("smi*^j?hn",), ("Smith^John",), True),
        ("C.2.2.2.4 none in IS", NUMBER, "IS", ("1?",), ("12",), False),
        ("C.2.2.2.5 range", DATE, "DA", ("20040101-20040131",), ("20040119",), True),
        ("C.2.2.2.5 range, ends included", DATE, "DA", ("20040101-20040131",), ("20040131",), True),
        ("C.2.2.2.5 range", DATE, "DA", ("20040101-20040131",), ("20040201",), False),
        ("C.2.2.2.5 range, open", DATE, "DA", ("20040101-",), ("20991231",), True),
        ("C.2.2.2.5 range, open", DATE, "DA", ("-20040131",), ("19000101",), True),
        ("C.2.2.2.5 range, absent", DATE, "DA", ("-20040131",), (), False),
        ("C.2.2.2.5 range, time", TIME, "TM", ("1000-1200",), ("120030",), True),
        ("C.2.2.2.5 range, time", TIME, "TM", ("1000-1200",), ("120100",), False),
        ("C.2.2.2.5 range, offset", 0x0040A13A, "DT", ("2004011912-0500-",), ("20040119180000+0100",), True),
        ("C.2.2.2.7 empty value", ID, "LO", ('""',), (), True),
        ("C.2.2.2.7 empty value", ID, "LO", ('""',), ("",), True),
        ("C.2.2.2.7 empty value", ID, "LO", ('""',), ("1",), False),
        ("C.2.2.2.7 empty value, date", DATE, "DA", ('""',), (), True),
        ("C.2.2.2.8 multiple value", MODALITY, "CS", ("CT", "MR"), ("MR",), True),
        ("C.2.2.2.8 multiple value", MODALITY, "CS", ("CT\\M*",), ("MR",), True),
        ("C.2.2.2.8 multiple value", MODALITY, "CS", ("CT", "MR"), ("US",), False),
        ("text block, backslash is a character", COMMENTS, "LT", ("a\\b",), ("a\\b",), True),
        ("text block, backslash is a character", COMMENTS, "LT", ("a\\b",), ("b",), False),
    ],
)  # fmt: skip
def test_a_key_matches_as_its_section_says(
    section: str, tag: int, vr: str, key: tuple[object, ...], stored: tuple[object, ...], found: bool
) -> None:
    matcher = compile_key(tag, vr, key)
    assert matcher is not None, section
    assert matcher.matches(stored) is found, section


@pytest.mark.parametrize(
    ("tag", "vr", "key"),
    [
        (ID, "LO", ()), (ID, "LO", ("",)), (ID, "LO", ("*",)), (ID, "LO", ("**",)), (UID, "UI", ("*",)),
        (DATE, "DA", ("*",)), (NAME, "PN", ("^^",)), (NAME, "PN", ("*^*",)), (STEPS, "SQ", ()),
        (STEPS, "SQ", (Dataset(),)), (STEPS, "SQ", (Dataset({MODALITY: Element("CS")}),)),
        (0x00282000, "OB", (b"x",)), (MODALITY, "CS", ("CT", "*")),
    ],
)  # fmt: skip
def test_universal_matching_needs_no_matcher(tag: int, vr: str, key: tuple[object, ...]) -> None:
    assert compile_key(tag, vr, key) is None


@pytest.mark.parametrize(
    ("tag", "vr", "key", "kind", "narrow"),
    [
        (ID, "LO", ("123",), "single", {"values": ("123",), "prefix": "123"}),
        (ID, "LO", ("12*4",), "wildcard", {"prefix": "12"}),
        (NAME, "PN", ("Smith^J*",), "wildcard", {"prefix": "smith^j"}),
        (UID, "UI", ("1.2",), "single", {"values": ("1.2",)}),
        (UID, "UI", ("1.2", "1.3"), "uid-list", {"values": ("1.2", "1.3")}),
        (MODALITY, "CS", ("CT", "MR"), "multiple", {"values": ("CT", "MR")}),
        (MODALITY, "CS", ("CT", "M*"), "multiple", {"values": ()}),
        (DATE, "DA", ("20040119",), "single", {"values": ("20040119",), "low": "20040119", "high": "20040119"}),
        (DATE, "DA", ("2004-2005",), "range", {"low": "20040101", "high": "20051231"}),
        (TIME, "TM", ("10",), "range", {"low": "100000.000000", "high": "105959.999999"}),
        (ID, "LO", ('""',), "empty", {"values": ()}),
    ],
)  # fmt: skip
def test_a_matcher_says_what_a_database_can_narrow_by(
    tag: int, vr: str, key: tuple[str, ...], kind: str, narrow: dict[str, object]
) -> None:
    matcher = compile_key(tag, vr, key)
    assert matcher is not None
    assert matcher.kind == kind
    assert {name: getattr(matcher, name) for name in narrow} == narrow


def step(modality: str, date: str) -> Dataset:
    return Dataset({MODALITY: Element("CS", (modality,)), 0x00400002: Element("DA", (date,))})


def test_a_sequence_matches_when_one_item_has_all_keys() -> None:
    key = Dataset({MODALITY: Element("CS", ("CT",)), 0x00400002: Element("DA", ("20040101-",))})
    matcher = compile_key(STEPS, "SQ", (key,))
    assert matcher is not None
    assert matcher.kind == "sequence"
    assert set(matcher.keys[0]) == {MODALITY, 0x00400002}
    assert matcher.matches((step("MR", "20040119"), step("CT", "20040119")))
    assert not matcher.matches((step("MR", "20040119"), step("CT", "20031231")))
    assert not matcher.matches(())


def test_sequences_within_sequences_match() -> None:
    key = Dataset({STEPS: Element("SQ", (Dataset({MODALITY: Element("CS", ("CT",))}),))})
    stored = Dataset({STEPS: Element("SQ", (step("CT", "20040101"),))})
    matcher = compile_key(0x00400275, "SQ", (key,))
    assert matcher is not None
    assert matcher.matches((stored,))
    assert not matcher.matches((Dataset(),))


def test_sequence_keys_nested_beyond_the_bound_are_refused() -> None:
    key = Dataset({MODALITY: Element("CS", ("CT",))})
    for _ in range(40):
        key = Dataset({STEPS: Element("SQ", (key,))})
    with pytest.raises(KeyRefused):
        compile_key(STEPS, "SQ", (key,))


@pytest.mark.parametrize(
    ("tag", "vr", "key"),
    [(DATE, "DA", ("secret",)), (TIME, "TM", ("99",)), (ID, "LO", ("secret*" * 400,)), (DATE, "DA", ("2004*",))],
)
def test_a_key_that_cannot_be_matched_is_refused_with_its_tag_and_without_its_value(
    tag: int, vr: str, key: tuple[str, ...]
) -> None:
    with pytest.raises(KeyRefused) as refusal:
        compile_key(tag, vr, key)
    assert refusal.value.tag == tag
    assert key[0] not in str(refusal.value)


@pytest.mark.parametrize(
    ("dates", "times", "stored", "found"),
    [
        ("20040101-20040103", "1200-0800", ("20040102", "0300"), True),
        ("20040101-20040103", "1200-0800", ("20040101", "1100"), False),
        ("20040101-20040103", "1200-0800", ("20040103", "080030"), True),
        ("20040101-20040103", "1200-0800", ("20040103", "0900"), False),
        ("20040101-", "1200-", ("20040102", "0100"), True),
        ("-20040103", "-0800", ("20040103", "0900"), False),
        ("20040101", "10", ("20040101", "101530"), True),
        ("20040101", "10", ("20040101", "111530"), False),
        ("20040101-20040103", "1200-0800", ("20040101", ""), True),
        ("20040101-20040103", "1200-0800", ("", "1300"), False),
    ],
)
def test_date_and_time_match_as_one_moment_where_combined(
    dates: str, times: str, stored: tuple[str, str], found: bool
) -> None:
    matcher = compile_pair(DATE, (dates,), (times,))
    assert matcher is not None
    assert matcher.matches((stored[0],), (stored[1],)) is found


@pytest.mark.parametrize(("dates", "times"), [((), ("10",)), (("2004",), ()), (("*",), ("10",)), (('""',), ("10",))])
def test_half_a_pair_is_matched_by_itself(dates: tuple[str, ...], times: tuple[str, ...]) -> None:
    assert compile_pair(DATE, dates, times) is None


def test_a_pair_that_is_no_moment_is_refused() -> None:
    with pytest.raises(KeyRefused):
        compile_pair(DATE, ("soon",), ("10",))


def test_each_date_has_its_time() -> None:
    assert TIME_OF_DATE[DATE] == TIME


def test_fuzzy_names_match_by_their_words_and_say_what_to_look_up() -> None:
    matcher = compile_key(NAME, "PN", ("jon smyth",), fuzzy=True)
    assert matcher is not None
    assert matcher.kind == "fuzzy"
    assert [token.word for token in matcher.tokens] == ["jon", "smyth"]
    assert matcher.matches(("Smith^John",))
    assert not matcher.matches(("Smith^Peter",))


def test_all_keys_of_an_identifier_must_match() -> None:
    keys = compile_keys(Dataset({ID: Element("LO", ("1*",)), NAME: Element("PN", ("smith",)), DATE: Element("DA")}))
    assert set(keys) == {ID, NAME}
    stored = Dataset({ID: Element("LO", ("12",)), NAME: Element("PN", ("Smith^J",))})
    assert item_matches(stored, keys)
    assert not item_matches(Dataset({ID: Element("LO", ("12",))}), keys)


@given(st.sampled_from(["LO", "PN", "DA", "TM", "DT", "UI", "IS", "UT"]), st.text(max_size=20), st.text(max_size=20))
def test_any_key_is_compiled_or_refused_and_any_stored_value_is_answered(vr: str, key: str, stored: str) -> None:
    try:
        matcher = compile_key(0x00091001, vr, (key,))
    except KeyRefused:
        return
    assert matcher is None or matcher.matches((stored,)) in {True, False}
