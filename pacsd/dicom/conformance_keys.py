"""How each key of a query is matched, for the conformance statement: found by compiling sample keys, not declared.

A sample goes through `index.query_keys`, as a received identifier does; what kind its matcher has is what is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pacsd.index.query_keys import sort_keys
from pacsd.model.attributes import COLUMNS, COMPUTED, Level
from pacsd.model.dataset import Dataset, Element
from pacsd.model.matching import EMPTY, TIME_OF_DATE, Matcher
from pacsd.model.query import Query, Root

_CODE: Final = ("CODE", "COD*", "C?DE", "ONE\\TWO", EMPTY)
_NUMBER: Final = ("1", "1\\2", EMPTY)
_BINARY: Final = (1,)
SAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "AE": _CODE,
    "AS": ("042Y",),
    "CS": _CODE,
    "DA": ("20240131", "20240101-20240131", "20240131\\20240201", EMPTY),
    "DS": _NUMBER,
    "DT": ("20240131101500.000000+0000", "20240101-20240131", "20240131\\20240201", EMPTY),
    "FD": _BINARY,
    "FL": _BINARY,
    "IS": _NUMBER,
    "LO": _CODE,
    "LT": ("TEXT", "TE*"),
    "PN": ("Doe^Jane", "Doe*", "Doe^Jane\\Roe^Jane", EMPTY),
    "SH": _CODE,
    "SL": _BINARY,
    "SQ": (Dataset({0x00080100: Element("SH", ("CODE",))}),),
    "SS": _BINARY,
    "ST": ("TEXT", "TE*"),
    "TM": ("101500.000000", "1000-1200", "10\\12", EMPTY),
    "UC": _CODE,
    "UI": ("1.2.3", "1.2.3\\1.2.4", EMPTY),
    "UL": _BINARY,
    "UR": ("urn:x",),
    "US": _BINARY,
    "UT": ("TEXT", "TE*"),
}
"""Values that ask for each kind of matching which a VR may have."""

KINDS: Final[dict[str, str]] = {
    "single": "single value",
    "uid-list": "list of UID",
    "multiple": "multiple values",
    "wildcard": "wildcard",
    "fuzzy": "fuzzy",
    "range": "range",
    "sequence": "sequence",
    "empty": "empty value",
}
"""Kinds of `model.matching` in the words of PS3.4 C.2.2.2, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of a level.

    Attributes:
        kinds: of `KINDS`; () for a key that is returned only.
        combined: the time or date with which it is one moment, where combined matching was negotiated.
    """

    tag: int
    keyword: str
    vr: str
    level: Level
    kinds: tuple[str, ...]
    is_unique: bool = False
    is_computed: bool = False
    combined: bool = False


def compiled(tag: int, vr: str, value: object, *, fuzzy: bool = False) -> Matcher | None:
    """The matcher that the index makes of one key with that value; None for universal matching or none at all."""
    keys = Dataset({tag: Element(vr, (value,))})
    sorted_keys = sort_keys(Query(Root.PATIENT, Level.IMAGE, keys, relational=True, fuzzy=fuzzy))
    for key in (*sorted_keys.columns, *sorted_keys.computed, *sorted_keys.heads):
        if key.tag == tag:
            return key.matcher
    return None


def kinds_of(tag: int, vr: str) -> tuple[str, ...]:
    """Kinds of matching of an attribute, besides universal matching, which every key has."""
    matchers = [compiled(tag, vr, sample) for sample in SAMPLES[vr]]
    if vr == "PN":
        matchers.append(compiled(tag, vr, SAMPLES[vr][0], fuzzy=True))
    found = {matcher.kind for matcher in matchers if matcher is not None}
    return tuple(kind for kind in KINDS if kind in found)


def rows(level: Level) -> Iterator[KeyRow]:
    """Give the keys of a level: columns of the index, then what is answered from kept counts and lists."""
    paired = {*TIME_OF_DATE, *TIME_OF_DATE.values()}
    for column in COLUMNS:
        if column.level is level:
            yield KeyRow(column.tag, column.keyword, column.vr, level, kinds_of(column.tag, column.vr),
                         is_unique=column.unique_key, combined=column.tag in paired)  # fmt: skip
    for tag, (keyword, vr, top) in COMPUTED.items():
        if top is level:
            yield KeyRow(tag, keyword, vr, level, kinds_of(tag, vr), is_computed=True)
