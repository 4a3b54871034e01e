"""Queries: from a received identifier to a typed query, and from that to pages of answers (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from pacsd.model.attributes import (
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET_FROM_UTC,
    Level,
)
from pacsd.model.dataset import Dataset
from pacsd.model.errors import DatasetMismatch
from pacsd.model.query import Page, Query, Root
from pacsd.workflow.ports import Index, Offload

FIRST_PAGE = 50
PAGE_SIZE = 500

LEVELS: dict[Root, tuple[Level, ...]] = {
    Root.PATIENT: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    Root.STUDY: (Level.STUDY, Level.SERIES, Level.IMAGE),
    Root.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
}
"""The levels of each information model, top first (PS3.4 C.6.1.1, C.6.2.1, C.6.3.1)."""

UNIQUE_KEYS: dict[Level, int] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}
"""PatientID, Study, Series and SOP Instance UID: what one entity of a level is named by."""

KEY_NAMES: dict[Level, str] = {
    Level.PATIENT: "Patient ID",
    Level.STUDY: "Study Instance UID",
    Level.SERIES: "Series Instance UID",
    Level.IMAGE: "SOP Instance UID",
}


class IdentifierRefused(DatasetMismatch):
    """The identifier does not fit the information model; `offending` names the tags (Offending Element, 0000,0901)."""

    def __init__(self, comment: str, *offending: int) -> None:
        super().__init__(comment)
        self.offending = offending


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the requester and we agreed on beyond the baseline (extended negotiation, PS3.4 C.5.1.1.1).

    The first four of the service class' bytes, in their order; all False without negotiation.
    """

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    timezone: bool = False

    @classmethod
    def of(cls, information: bytes) -> Abilities:
        """From the accepted application information; missing bytes mean False, more than four are ignored."""
        flags = [byte == 1 for byte in information[:4]] + [False] * 4
        return cls(*flags[:4])


BASELINE = Abilities()


def level_of_identifier(root: Root, identifier: Dataset) -> Level:
    """The Query/Retrieve Level of an identifier; raises IdentifierRefused unless it is one of the root's."""
    name = identifier.text(QUERY_RETRIEVE_LEVEL).strip().upper()
    if not name:
        raise IdentifierRefused("Query/Retrieve Level is missing", QUERY_RETRIEVE_LEVEL)
    for level in LEVELS[root]:
        if level.name == name:
            return level
    raise IdentifierRefused("Query/Retrieve Level is not one of this root", QUERY_RETRIEVE_LEVEL)


def typed_query(root: Root, identifier: Dataset, abilities: Abilities = BASELINE, *, limit: int | None = None) -> Query:
    """Check an identifier and make the query that the index answers.

    Group lengths are dropped wherever devices send them. Without relational queries each unique key above the level
    must hold exactly one value (PS3.4 C.4.1.2.1, C.4.1.3.1).

    Raises:
        IdentifierRefused: wrong or missing level; a unique key above the level missing, empty, a list or a wildcard.
    """
    level = level_of_identifier(root, identifier)
    if not abilities.relational:
        for above in LEVELS[root]:
            if above < level:
                _require_single(identifier, above)
    taken_off = {QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET}
    keys = Dataset({tag: element for tag, element in identifier.items() if tag & 0xFFFF and tag not in taken_off})
    return Query(
        root=root,
        level=level,
        keys=keys,
        relational=abilities.relational,
        combined_datetime=abilities.combined_datetime,
        fuzzy=abilities.fuzzy,
        utc_offset_minutes=_utc_offset_minutes(identifier) if abilities.timezone else None,
        limit=limit,
    )


def _require_single(identifier: Dataset, level: Level) -> None:
    tag = UNIQUE_KEYS[level]
    values = [value for value in identifier.texts(tag) if value]
    if not values:
        raise IdentifierRefused(f"{KEY_NAMES[level]} is needed at this level", tag)
    wildcard = level is not Level.PATIENT and any(mark in values[0] for mark in "*?")
    if len(values) > 1 or wildcard or values[0] == "*":
        raise IdentifierRefused(f"{KEY_NAMES[level]} above the level must be one value", tag)


def _utc_offset_minutes(identifier: Dataset) -> int | None:
    """Timezone Offset From UTC (&ZZXX, PS3.3 C.12.1.1.1) in minutes; None when absent or not one."""
    text = identifier.text(TIMEZONE_OFFSET_FROM_UTC).strip()
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdecimal() or not text.isascii():
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    if int(text[3:]) > 59 or minutes > 14 * 60:
        return None
    return -minutes if text[0] == "-" else minutes


async def pages(
    query: Query, index: Index, offload: Offload, *, cancelled: Callable[[], bool] = lambda: False
) -> AsyncGenerator[Page, None]:
    """Answers page by page, each searched for in the pool while the caller does nothing but wait.

    The first page is small, so that the first answer is early. Ends when there is nothing more, at `query.limit`
    answers, or before the next page once `cancelled()` is true. Close it (`contextlib.aclosing`) when leaving early.

    Raises:
        errors.OutOfResources: the index can't serve, or the pool's queue is full.
    """
    cursor: tuple[int | str, ...] | None = None
    left = query.limit
    size = FIRST_PAGE
    while not cancelled():
        wanted = size if left is None else min(size, left)
        if wanted <= 0:
            return
        page = await offload.run(index.search, query, cursor, wanted)
        if cancelled():
            return
        yield page
        cursor = page.cursor
        if cursor is None:
            return
        if left is not None:
            left -= len(page.matches)
        size = PAGE_SIZE
