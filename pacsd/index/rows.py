"""What an object becomes before the transaction starts: cleaned values, compressed head, keys to sort by."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pacsd.index.text import clean, key
from pacsd.model.attributes import COLUMNS, Level
from pacsd.model.datetime_range import RangeError, parse_date
from pacsd.model.objects import NewInstance

KEY_NAMES = frozenset({
    "patient_id", "issuer", "study_uid", "study_date", "accession_number", "series_uid", "sop_instance_uid",
})  # fmt: skip
"""Indexed columns; the others hold any length."""


def _columns(level: Level) -> tuple[tuple[int, str, bool], ...]:
    return tuple(
        (column.tag, column.name, column.name in KEY_NAMES)
        for column in COLUMNS
        if column.level is level and column.name != "sop_class_uid"
    )


PATIENT_COLUMNS = _columns(Level.PATIENT)
STUDY_COLUMNS = _columns(Level.STUDY)
SERIES_COLUMNS = _columns(Level.SERIES)
INSTANCE_COLUMNS = _columns(Level.IMAGE)
_INSTANCE_TAGS = tuple(tag for tag, name, _ in INSTANCE_COLUMNS if name != "sop_instance_uid")
assert INSTANCE_COLUMNS[0][1] == "sop_instance_uid"


@dataclass(slots=True)
class Prepared:
    """One object of a batch, as the transaction needs it. `attributes` in the order of `INSTANCE_COLUMNS`."""

    new: NewInstance
    sop_instance_uid: str
    series_key: tuple[str, str]
    attributes: tuple[str, ...]
    head: bytes
    flags: str

    def values(self, columns: tuple[tuple[int, str, bool], ...]) -> dict[str, str]:
        """Texts of an upper level, by column name."""
        given = self.new.header.values
        found = {
            name: key(given.get(tag, "")) if indexed else clean(given.get(tag, "")).strip()
            for tag, name, indexed in columns
        }
        if columns is STUDY_COLUMNS:
            found["study_uid"] = self.series_key[0]
            found["study_date"] = whole_day(found["study_date"])
        elif columns is SERIES_COLUMNS:
            found["series_uid"] = self.series_key[1]
        return found


def whole_day(date: str) -> str:
    """A DA value as YYYYMMDD, so that days compare as texts; itself when it names no whole day."""
    if (len(date) == 8 and date.isdecimal()) or not date:
        return date
    try:
        day = parse_date(date)
    except RangeError:
        return date
    return day.low if day.low is not None and day.low == day.high else date


def prepare(new: NewInstance) -> Prepared:
    """All of an object's work that needs no database. Never raises for content; any thread."""
    header = new.header
    given = header.values
    uid = key(header.sop_instance_uid)
    attributes = [uid]
    for tag in _INSTANCE_TAGS:
        value = given.get(tag, "")
        attributes.append(value if value.isalnum() and value.isascii() else clean(value).strip())
    return Prepared(
        new,
        uid,
        (key(header.study_uid), key(header.series_uid)),
        tuple(attributes),
        zlib.compress(header.head, 1),
        ",".join(sorted(header.flags)) if header.flags else "",
    )
