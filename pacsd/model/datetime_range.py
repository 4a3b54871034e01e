"""Dates and times of keys and stored values as closed intervals of comparable strings (PS3.4 §C.2.2.2.5).

    DA  YYYYMMDD                        also YYYY.MM.DD (ACR-NEMA), YYYY-MM-DD, YYYYMM, YYYY
    TM  HHMMSS.FFFFFF                   also HH:MM:SS (ACR-NEMA), any precision
    DT  YYYYMMDDHHMMSS.FFFFFF, in UTC   any precision, &ZZXX

What a value leaves out makes it an interval: `1993` is the year, `10` the hour. Pure functions, any thread.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from typing import NamedTuple

_DATE = re.compile(r"(\d{4})(?:([.-]?)(\d\d)(?:\2(\d\d))?)?", re.ASCII)
_TIME = re.compile(r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_MAX_CHARS = 64
FIRST_TIME, LAST_TIME = "000000.000000", "235959.999999"


class RangeError(ValueError):
    """A text that is no date, time or range of them; the message doesn't repeat it."""


class Interval(NamedTuple):
    """From `low` to `high`, both included; None: open."""

    low: str | None
    high: str | None

    def overlaps(self, other: Interval) -> bool:
        """Whether some moment lies in both."""
        if self.low is not None and other.high is not None and other.high < self.low:
            return False
        return self.high is None or other.low is None or other.low <= self.high


def parse_date(text: str) -> Interval:
    """One DA value. Raises RangeError."""
    found = _DATE.fullmatch(text)
    if not found:
        raise RangeError("not a date (DA)")
    year, _, month, day = found.groups()
    _check_date(year, month, day)
    return Interval(_first_day(year, month, day), _last_day(year, month, day))


def parse_time(text: str) -> Interval:
    """One TM value. Raises RangeError."""
    found = _TIME.fullmatch(text)
    if not found:
        raise RangeError("not a time (TM)")
    hour, _, minute, second, fraction = found.groups()
    _check_time(hour, minute, second)
    low = f"{hour}{minute or '00'}{second or '00'}.{(fraction or '').ljust(6, '0')}"
    high = f"{hour}{minute or '59'}{second or '59'}.{(fraction or '').ljust(6, '9')}"
    return Interval(low, high)


def parse_datetime(text: str, default_offset_minutes: int = 0) -> Interval:
    """One DT value, in UTC. Raises RangeError.

    Args:
        default_offset_minutes: from UTC, of values that name none.
    """
    found = _DATETIME.fullmatch(text)
    if not found:
        raise RangeError("not a date and time (DT)")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    _check_date(year, month, day)
    if hour:
        _check_time(hour, minute, second)
    offset = default_offset_minutes if zone is None else _offset(zone)
    low = f"{_first_day(year, month, day)}{hour or '00'}{minute or '00'}{second or '00'}"
    high = f"{_last_day(year, month, day)}{hour or '23'}{minute or '59'}{second or '59'}"
    return Interval(
        _shifted(low, offset) + "." + (fraction or "").ljust(6, "0"),
        _shifted(high, offset) + "." + (fraction or "").ljust(6, "9"),
    )


def parse_range(text: str, vr: str, default_offset_minutes: int = 0) -> Interval:
    """A value or a range (`A-B`, `A-`, `-B`) of DA, TM or DT. Raises RangeError.

    A DT that reads as one value with an offset (`2004-0500`) is that value, not a range.
    """
    text = text.strip(" \0")
    if len(text) > _MAX_CHARS:
        raise RangeError("too long for a range of dates or times")
    try:
        return _single(text, vr, default_offset_minutes)
    except RangeError:
        if "-" not in text:
            raise
    for at in [found.start() for found in re.finditer("-", text)]:
        first, last = text[:at].strip(), text[at + 1 :].strip()
        if not first and not last:
            continue
        try:
            low = _single(first, vr, default_offset_minutes).low if first else None
            high = _single(last, vr, default_offset_minutes).high if last else None
        except RangeError:
            continue
        return Interval(low, high)
    raise RangeError(f"not a range ({vr})")


def is_range(text: str, vr: str) -> bool:
    """Whether a valid text names two ends, or one open one, instead of one value."""
    try:
        _single(text.strip(" \0"), vr, 0)
    except RangeError:
        return True
    return False


def combined(date: Interval | None, time: Interval | None) -> Interval:
    """One interval of `YYYYMMDDHHMMSS.FFFFFF` from a pair's date and time keys (combined datetime matching)."""
    low = high = None
    if date is not None and date.low is not None:
        low = date.low + ((time.low if time else None) or FIRST_TIME)
    if date is not None and date.high is not None:
        high = date.high + ((time.high if time else None) or LAST_TIME)
    return Interval(low, high)


def _single(text: str, vr: str, default_offset_minutes: int) -> Interval:
    if vr == "DA":
        return parse_date(text)
    if vr == "TM":
        return parse_time(text)
    return parse_datetime(text, default_offset_minutes)


def _check_date(year: str, month: str | None, day: str | None) -> None:
    if year == "0000" or not 1 <= int(month or 1) <= 12:
        raise RangeError("no such date")
    if not 1 <= int(day or 1) <= calendar.monthrange(int(year), int(month or 1))[1]:
        raise RangeError("no such date")


def _check_time(hour: str, minute: str | None, second: str | None) -> None:
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        raise RangeError("no such time")


def _first_day(year: str, month: str | None, day: str | None) -> str:
    return f"{year}{month or '01'}{day or '01'}"


def _last_day(year: str, month: str | None, day: str | None) -> str:
    month = month or "12"
    return f"{year}{month}{day or calendar.monthrange(int(year), int(month))[1]:>02}"


def _offset(zone: str) -> int:
    minutes = int(zone[1:3]) * 60 + int(zone[3:])
    minutes = -minutes if zone[0] == "-" else minutes
    if int(zone[3:]) > 59 or not -12 * 60 <= minutes <= 14 * 60:
        raise RangeError("no such offset from UTC")
    return minutes


def _shifted(moment: str, offset_minutes: int) -> str:
    """`YYYYMMDDHHMMSS` of a place at that offset, in UTC; a leap second counts as the second before."""
    if moment.endswith("60"):
        moment = moment[:-2] + "59"
    if not offset_minutes:
        return moment
    try:
        there = datetime.strptime(moment, "%Y%m%d%H%M%S")  # noqa: DTZ007 - the offset is taken off here
        utc = there - timedelta(minutes=offset_minutes)
    except (ValueError, OverflowError):
        raise RangeError("no such moment") from None
    return f"{utc.year:04}{utc:%m%d%H%M%S}"
