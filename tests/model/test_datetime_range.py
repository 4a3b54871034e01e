"""Dates and times of every precision and age become intervals that compare as strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.datetime_range import Interval, RangeError, combined, is_range, parse_range


@pytest.mark.parametrize(
    ("vr", "text", "low", "high"),
    [
        ("DA", "20040119", "20040119", "20040119"),
        ("DA", "1993.08.22", "19930822", "19930822"),
        ("DA", "2004-01-19", "20040119", "20040119"),
        ("DA", "20040101-20040131", "20040101", "20040131"),
        ("DA", "20040101-", "20040101", None),
        ("DA", "-20040131", None, "20040131"),
        ("DA", "1993.08.22-1993.08.23", "19930822", "19930823"),
        ("DA", "2004", "20040101", "20041231"),
        ("DA", "200402", "20040201", "20040229"),
        ("DA", "20040229 ", "20040229", "20040229"),
        ("DA", "20040101 - 20040102", "20040101", "20040102"),
        ("TM", "10", "100000.000000", "105959.999999"),
        ("TM", "1015", "101500.000000", "101559.999999"),
        ("TM", "101530", "101530.000000", "101530.999999"),
        ("TM", "101530.5", "101530.500000", "101530.599999"),
        ("TM", "10:15:30", "101530.000000", "101530.999999"),
        ("TM", "1000-1200", "100000.000000", "120059.999999"),
        ("TM", "1000-", "100000.000000", None),
        ("TM", "-12", None, "125959.999999"),
        ("DT", "20040119", "20040119000000.000000", "20040119235959.999999"),
        ("DT", "2004", "20040101000000.000000", "20041231235959.999999"),
        ("DT", "20040119120000.5", "20040119120000.500000", "20040119120000.599999"),
        ("DT", "20040119120000+0100", "20040119110000.000000", "20040119110000.999999"),
        ("DT", "20040101003000-0500", "20040101053000.000000", "20040101053000.999999"),
        ("DT", "2004-2005", "20040101000000.000000", "20051231235959.999999"),
        ("DT", "20040101-", "20040101000000.000000", None),
        ("DT", "-20040101", None, "20040101235959.999999"),
        ("DT", "2004010112-0500-2004010113-0500", "20040101170000.000000", "20040101185959.999999"),
        ("DT", "20040101-0500-", "20040101050000.000000", None),
    ],
)
def test_a_value_or_range_is_an_interval(vr: str, text: str, low: str | None, high: str | None) -> None:
    assert parse_range(text, vr) == Interval(low, high)


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("DA", "20040230"), ("DA", "20041301"), ("DA", "x"), ("DA", ""), ("DA", "-"), ("DA", "2004*"),
        ("DA", "20040101-20040102-20040103"), ("DA", "00000101"), ("DA", "٢٠٠٤٠١٠١"), ("TM", "25"), ("TM", "1260"),
        ("TM", "101"), ("TM", "10:15.5"), ("DT", "20040119250000"), ("DT", "20040119120000+2500"),
        ("DT", "2004011912.5"), ("DA", "1" * 1000),
    ],
)  # fmt: skip
def test_what_is_no_date_or_time_is_refused_without_being_repeated(vr: str, text: str) -> None:
    with pytest.raises(RangeError) as refusal:
        parse_range(text, vr)
    assert len(text) < 3 or text not in str(refusal.value)


def test_values_without_an_offset_take_the_default_one() -> None:
    assert parse_range("20040119120000", "DT", 60).low == "20040119110000.000000"
    assert parse_range("20040119120000-0500", "DT", 60).low == "20040119170000.000000"


def test_moments_at_the_ends_of_the_calendar_are_refused_or_stay_comparable() -> None:
    with pytest.raises(RangeError):
        parse_range("00010101000000+1400", "DT")
    assert parse_range("00010102000000+0100", "DT").low == "00010101230000.000000"


def test_a_range_is_told_from_a_value() -> None:
    assert is_range("2004-2005", "DT")
    assert not is_range("2004-0500", "DT")
    assert is_range("20040101-", "DA")
    assert not is_range("2004.01.01", "DA")


def test_a_date_and_a_time_make_one_interval() -> None:
    date, time = parse_range("20040101-20040103", "DA"), parse_range("1200-0800", "TM")
    assert combined(date, time) == ("20040101120000.000000", "20040103080059.999999")
    assert combined(date, None) == ("20040101000000.000000", "20040103235959.999999")
    assert combined(parse_range("20040101-", "DA"), time) == ("20040101120000.000000", None)


@given(st.dates().map(lambda day: day.isoformat().replace("-", "")), st.dates())
def test_dates_order_as_their_strings(text: str, other: object) -> None:
    one, two = parse_range(text, "DA"), parse_range(str(other), "DA")
    assert one.low == one.high == text
    assert one.overlaps(two) is (one == two)


@given(st.text("0123456789-+.: ", max_size=30), st.sampled_from(["DA", "TM", "DT"]))
def test_any_text_is_an_interval_or_refused(text: str, vr: str) -> None:
    try:
        low, high = parse_range(text, vr)
    except RangeError:
        return
    assert low is not None or high is not None
