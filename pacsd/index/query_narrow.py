"""What a compiled key lets the database leave out, by columns that have an index. Never a row that matches.

A stored date that names no whole day (`2020`) is the exception: it is found under its first day only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, select

from pacsd.index.query_keys import Key
from pacsd.index.rows import KEY_NAMES
from pacsd.index.schema import LEVEL_TABLES, MAX_FORM_CHARS, PATIENT, PATIENT_NAME_TOKEN
from pacsd.index.text import KEPT_CHARS, clean, key

_EXACT_KINDS = frozenset({"single", "uid-list", "multiple"})
_EXACT_VRS = frozenset({"UI", "LO", "SH", "CS"})


def exact_values(asked: Key) -> tuple[str, ...]:
    """The texts of which a matching row has one, as stored; () when they can't be named."""
    matcher = asked.matcher
    if matcher is None or matcher.kind not in _EXACT_KINDS or matcher.vr not in _EXACT_VRS:
        return ()
    return tuple(sorted({key(value) for value in matcher.values}))


def is_decided(asked: Key) -> bool:
    """True when `narrowed` says all that the key says."""
    return asked.column is not None and asked.column.name in KEY_NAMES and bool(exact_values(asked))


def indexed(asked: Key) -> bool:
    """True when the key is a range of its column's index."""
    return asked.matcher is not None and asked.matcher.kind in {"wildcard", "empty"} and narrowed(asked) is not None


def narrowed(asked: Key) -> ColumnElement[bool] | None:
    """A condition that every matching row meets, None when no index would help."""
    matcher, column = asked.matcher, asked.column
    if column is None or column.name not in KEY_NAMES:
        return None
    stored = LEVEL_TABLES[column.level].c[column.name]
    if column.name == "study_date" and (conditions := between(stored, date_bounds(asked))):
        return and_(*conditions)
    if matcher is None:
        return None
    if values := exact_values(asked):
        return stored == values[0] if len(values) == 1 else stored.in_(values)
    if matcher.kind == "empty":
        return stored == ""
    prefix = clean(matcher.prefix).strip()[:KEPT_CHARS] if matcher.kind == "wildcard" else ""
    if not prefix:
        return None
    low, high = prefix_range(prefix)
    return stored >= low if high is None else (stored >= low) & (stored < high)


def date_bounds(asked: Key) -> tuple[str | None, str | None]:
    """First and last day of a key of dates; None: open."""
    if asked.bounds is not None:
        return asked.bounds
    matcher = asked.matcher
    if matcher is None or matcher.kind not in {"single", "range"}:
        return None, None
    return matcher.low, matcher.high


def between(column: ColumnElement[Any], bounds: tuple[str | None, str | None]) -> list[ColumnElement[bool]]:
    """Conditions for a closed interval with open ends left out."""
    low, high = bounds
    conditions: list[ColumnElement[bool]] = []
    if low is not None:
        conditions.append(column >= low)
    if high is not None:
        conditions.append(column <= high)
    return conditions


def prefix_range(prefix: str) -> tuple[str, str | None]:
    """Texts with a prefix as a half-open range in the order of code points; None: no upper end."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix, prefix[:at] + chr(code)
    return prefix, None


def name_prefix(asked: Key) -> str:
    """What one group of every matching name begins with, as `patient_name` has it; '' when unknown."""
    matcher = asked.matcher
    if matcher is None or matcher.kind != "wildcard":
        return ""
    return clean(matcher.prefix)[:MAX_FORM_CHARS]


def fuzzy_patients(asked: Key) -> list[ColumnElement[bool]]:
    """Patients by the words of a fuzzy name and how they sound; every word must be met."""
    conditions: list[ColumnElement[bool]] = []
    token = PATIENT_NAME_TOKEN.c.token
    found: ColumnElement[bool]
    for word in asked.matcher.tokens if asked.matcher is not None else ():
        if word.code:
            found = token.in_(sorted({clean(word.word)[:MAX_FORM_CHARS], clean(word.code)[:MAX_FORM_CHARS]}))
        elif prefix := clean(word.prefix)[:MAX_FORM_CHARS]:
            low, high = prefix_range(prefix)
            found = token >= low if high is None else (token >= low) & (token < high)
        else:
            continue
        conditions.append(PATIENT.c.id.in_(select(PATIENT_NAME_TOKEN.c.patient).where(found)))
    return conditions
