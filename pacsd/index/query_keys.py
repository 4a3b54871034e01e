"""An identifier sorted by where its keys are answered from: columns, kept counts and lists, received headers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pacsd.model.attributes import (
    BY_TAG,
    COMPUTED,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET_FROM_UTC,
    Column,
    Level,
    level_of,
)
from pacsd.model.dataset import Element
from pacsd.model.errors import DatasetMismatch
from pacsd.model.matching import (
    TIME_OF_DATE,
    CombinedMatcher,
    KeyRefused,
    Matcher,
    compile_key,
    compile_pair,
)
from pacsd.model.query import Query, Root

UNIQUE_COLUMNS: dict[Level, Column] = {column.level: column for column in BY_TAG.values() if column.unique_key}

_CALLERS = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE})
_TOP: dict[Root, Level] = {
    Root.PATIENT: Level.PATIENT,
    Root.STUDY: Level.STUDY,
    Root.PATIENT_STUDY_ONLY: Level.PATIENT,
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        matcher: None for universal matching, and for a key of a pair that is matched together.
        column: of an attribute that is one.
        bounds: first and last day of a date that is matched together with its time.
    """

    tag: int
    element: Element
    level: Level
    matcher: Matcher | None
    column: Column | None = None
    bounds: tuple[str | None, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A date and its time that are matched as one moment (PS3.4 C.2.2.2.5.2)."""

    date: int
    time: int
    matcher: CombinedMatcher


@dataclass(slots=True)
class Keys:
    """The keys of a query.

    Attributes:
        columns, computed, heads: of the query's level and those above it; matched where they say so, and returned.
        pairs: dates and times among `columns` that are matched together.
        below: keys of lower levels with a condition (relational queries only).
        empty: tags that are answered without a value: of lower levels, which an answer can't have one value for.
        unsupported: a key can't be answered (FF01).
    """

    columns: list[Key] = field(default_factory=list)
    computed: list[Key] = field(default_factory=list)
    heads: list[Key] = field(default_factory=list)
    below: list[Key] = field(default_factory=list)
    empty: list[Key] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    unsupported: bool = False

    def column(self, name: str, level: Level) -> Key | None:
        """The key of a column with a condition."""
        for key in self.columns:
            column = key.column
            asks = key.matcher is not None or key.bounds is not None
            if asks and column is not None and column.name == name and column.level is level:
                return key
        return None

    def computed_key(self, tag: int) -> Key | None:
        """The key of a kept list with a condition."""
        return next((key for key in self.computed if key.tag == tag and key.matcher is not None), None)


def sort_keys(query: Query) -> Keys:
    """Compile every key of a query.

    Raises:
        errors.DatasetMismatch: a key can't be matched (no date where one must be); a unique key above the level is
            missing in a query that isn't relational; the level isn't one of the root's.
    """
    _check_levels(query)
    keys = Keys()
    try:
        _sort_all(keys, query)
    except KeyRefused as refusal:
        raise DatasetMismatch(str(refusal)) from refusal
    return keys


def _sort_all(keys: Keys, query: Query) -> None:
    for tag, element in sorted(query.keys.items()):
        if tag in _CALLERS or not tag & 0xFFFF:
            continue
        if tag == TIMEZONE_OFFSET_FROM_UTC and query.utc_offset_minutes is not None:
            continue
        _sort(keys, query, tag, element)
    if query.combined_datetime:
        _pair(keys)


def _pair(keys: Keys) -> None:
    """Let dates and times that are both asked for be matched together."""
    held = {key.tag: key for key in keys.columns}
    for date_tag, time_tag in TIME_OF_DATE.items():
        if date_tag not in held or time_tag not in held:
            continue
        date, time = held[date_tag], held[time_tag]
        matcher = compile_pair(date_tag, date.element.value, time.element.value)
        if matcher is None:
            continue
        keys.pairs.append(Pair(date_tag, time_tag, matcher))
        bounds = (matcher.low and matcher.low[:8], matcher.high and matcher.high[:8])
        held[date_tag] = replace(date, matcher=None, bounds=bounds)
        held[time_tag] = replace(time, matcher=None)
    keys.columns = list(held.values())


def _sort(keys: Keys, query: Query, tag: int, element: Element) -> None:
    level = Level.PATIENT if tag == TIMEZONE_OFFSET_FROM_UTC else level_of(tag)
    column = BY_TAG.get(tag)
    if tag in COMPUTED:
        if level > query.level:
            keys.unsupported = True
            keys.empty.append(Key(tag, element, level, None))
        else:
            keys.computed.append(Key(tag, element, level, _matcher(query, tag, element)))
        return
    key = Key(tag, element, level, _matcher(query, tag, element), column)
    if level > query.level:
        keys.empty.append(key)
        if not query.relational or (column is None and key.matcher is not None):
            keys.unsupported = True
        elif key.matcher is not None:
            keys.below.append(key)
    elif column is not None:
        keys.columns.append(key)
    else:
        keys.heads.append(key)


def _matcher(query: Query, tag: int, element: Element) -> Matcher | None:
    vr = BY_TAG[tag].vr if tag in BY_TAG else COMPUTED[tag][1] if tag in COMPUTED else element.vr
    return compile_key(tag, vr, element.value, fuzzy=query.fuzzy, utc_offset_minutes=query.utc_offset_minutes or 0)


def _check_levels(query: Query) -> None:
    top = _TOP[query.root]
    if query.level < top or (query.root is Root.PATIENT_STUDY_ONLY and query.level > Level.STUDY):
        raise DatasetMismatch("the level is not one of this root")
    if query.relational:
        return
    for level, column in UNIQUE_COLUMNS.items():
        if top <= level < query.level and len([v for v in query.keys.texts(column.tag) if v]) != 1:
            raise DatasetMismatch(f"{column.keyword} above the level must be one value")
