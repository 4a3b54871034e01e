"""One typed query for C-FIND, QIDO-RS, worklist and console; one selector for retrieves.

Matching is defined once, in `matching`; the index narrows with SQL and the same matchers decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset


class Root(Enum):
    """Information model of a query or retrieve (PS3.4 C.6)."""

    PATIENT = "patient"
    STUDY = "study"
    PATIENT_STUDY_ONLY = "patient-study-only"


@dataclass(frozen=True, slots=True)
class Query:
    """A query at one level.

    Attributes:
        keys: the identifier: matching and return keys; Query/Retrieve Level and character set already taken off.
        relational: keys of other levels may be present and the unique keys above may be missing (PS3.4 C.4.1.2.2).
        combined_datetime: date and time of one pair are matched as one range (PS3.4 C.2.2.2.5).
        fuzzy: fuzzy semantic matching of person names.
        utc_offset_minutes: the requester's timezone where it was negotiated and sent, else None.
        limit: largest number of answers; None: no limit.
    """

    root: Root
    level: Level
    keys: Dataset = field(default_factory=Dataset)
    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    utc_offset_minutes: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some answers and where to go on.

    Attributes:
        matches: one data set each, with the requested attributes of the level and of those above it (absent ones
            empty); never Query/Retrieve Level, Retrieve AE Title or Specific Character Set: the caller's.
        unsupported: True when a key of the identifier was not supported (answered FF01 by C-FIND).
        cursor: opaque; None when this was the last page.
    """

    matches: tuple[Dataset, ...]
    unsupported: bool
    cursor: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class Selector:
    """Which instances a retrieve or commitment names: the level's UIDs (and those above, where given).

    An empty tuple places no condition. At least one must be given (`index` refuses an empty selector).
    """

    patient_ids: tuple[str, ...] = ()
    issuer: str = ""
    study_uids: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
