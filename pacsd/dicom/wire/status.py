"""Outcomes of DIMSE operations (PS3.7 Annex C, and of each service PS3.4's tables)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

SUCCESS: Final = 0x0000
CANCEL: Final = 0xFE00
PENDING: Final = 0xFF00
PENDING_UNSUPPORTED_KEYS: Final = 0xFF01

# General (PS3.7 Annex C)
ATTRIBUTE_LIST_ERROR: Final = 0x0107
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
CLASS_INSTANCE_CONFLICT: Final = 0x0119
DUPLICATE_SOP_INSTANCE: Final = 0x0111
DUPLICATE_INVOCATION: Final = 0x0210
INVALID_ARGUMENT_VALUE: Final = 0x0115
INVALID_ATTRIBUTE_VALUE: Final = 0x0106
INVALID_OBJECT_INSTANCE: Final = 0x0117
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_ATTRIBUTE_VALUE: Final = 0x0121
MISTYPED_ARGUMENT: Final = 0x0212
NO_SUCH_ACTION: Final = 0x0123
NO_SUCH_ARGUMENT: Final = 0x0114
NO_SUCH_ATTRIBUTE: Final = 0x0105
NO_SUCH_EVENT_TYPE: Final = 0x0113
NO_SUCH_SOP_CLASS: Final = 0x0118
NO_SUCH_SOP_INSTANCE: Final = 0x0112
NOT_AUTHORISED: Final = 0x0124
PROCESSING_FAILURE: Final = 0x0110
RESOURCE_LIMITATION: Final = 0x0213
UNRECOGNISED_OPERATION: Final = 0x0211
ATTRIBUTE_VALUE_OUT_OF_RANGE: Final = 0x0116
REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: Final = 0x0001

# Storage, query and retrieve (PS3.4 §B.2.3, §C.4)
OUT_OF_RESOURCES: Final = 0xA700
OUT_OF_RESOURCES_MATCHES: Final = 0xA701
OUT_OF_RESOURCES_SUBOPERATIONS: Final = 0xA702
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
DATASET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
SUBOPERATIONS_WITH_FAILURES: Final = 0xB000
COERCION_OF_DATA_ELEMENTS: Final = 0xB000
ELEMENTS_DISCARDED: Final = 0xB006
DATASET_DOES_NOT_MATCH_WARNING: Final = 0xB007
UNABLE_TO_PROCESS: Final = 0xC000
CANNOT_UNDERSTAND: Final = 0xC000


class Category(Enum):
    """How a requester goes on after a status (PS3.7 §C.1)."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


class StatusMeaning(NamedTuple):
    """A row of a service's table: the codes `code` under `mask`, and what they say."""

    code: int
    mask: int
    category: Category
    text: str


def _rows(table: str) -> tuple[StatusMeaning, ...]:
    rows = []
    for line in table.strip().splitlines():
        pattern, category, text = line.split(None, 2)
        mask = int("".join("0" if digit == "x" else "F" for digit in pattern), 16)
        rows.append(StatusMeaning(int(pattern.replace("x", "0"), 16), mask, Category(category), text))
    return tuple(rows)


GENERAL: Final = _rows("""
0000 success Success
FE00 cancel  Operation ended by a cancel request
FF00 pending Sub-operations or matches continue
0001 warning Requested optional attributes are not supported
0107 warning Attribute list error
0116 warning Attribute value out of range
0105 failure No such attribute
0106 failure Invalid attribute value
0110 failure Processing failure
0111 failure Duplicate SOP instance
0112 failure No such SOP instance
0113 failure No such event type
0114 failure No such argument
0115 failure Invalid argument value
0117 failure Invalid SOP instance
0118 failure No such SOP class
0119 failure Class and instance conflict
0120 failure Missing attribute
0121 failure Missing attribute value
0122 failure SOP class not supported
0123 failure No such action
0124 failure Not authorised
0210 failure Duplicate invocation
0211 failure Unrecognised operation
0212 failure Mistyped argument
0213 failure Resource limitation
""")

STORAGE: Final = _rows("""
B000 warning Coercion of data elements
B006 warning Elements discarded
B007 warning Data set does not match SOP class
A7xx failure Out of resources
A9xx failure Data set does not match SOP class
Cxxx failure Cannot understand
""")

FIND: Final = _rows("""
FF01 pending Matches continue; one or more optional keys were not supported
A700 failure Out of resources
A710 failure Invalid prior record key
A9xx failure Identifier does not match SOP class
Cxxx failure Unable to process
""")

RETRIEVE: Final = _rows("""
B000 warning Sub-operations complete, one or more failures or warnings
A701 failure Out of resources: unable to calculate the number of matches
A702 failure Out of resources: unable to perform sub-operations
A801 failure Move destination unknown
A9xx failure Identifier does not match SOP class
AA00 failure None of the requested frames were found
AA01 failure Unable to create a new object for this SOP class
AA02 failure Unable to extract frames
AA03 failure Time-based request for an object without time base
AA04 failure Invalid request
Cxxx failure Unable to process
""")

MODALITY_PERFORMED_PROCEDURE_STEP: Final = _rows("""
A710 failure Performed procedure step may no longer be updated
""")

BY_SERVICE: Final[Mapping[str, tuple[StatusMeaning, ...]]] = {
    "storage": STORAGE,
    "find": FIND,
    "move": RETRIEVE,
    "get": RETRIEVE,
    "mpps": MODALITY_PERFORMED_PROCEDURE_STEP,
}
"""Rows beyond `GENERAL`; Verification and Storage Commitment have none."""

# Storage commitment's Failure Reason (0008,1197), PS3.3 §C.14.1.1
COMMIT_PROCESSING_FAILURE: Final = PROCESSING_FAILURE
COMMIT_NO_SUCH_OBJECT_INSTANCE: Final = NO_SUCH_SOP_INSTANCE
COMMIT_RESOURCE_LIMITATION: Final = RESOURCE_LIMITATION
COMMIT_REFERENCED_SOP_CLASS_NOT_SUPPORTED: Final = SOP_CLASS_NOT_SUPPORTED
COMMIT_CLASS_INSTANCE_CONFLICT: Final = CLASS_INSTANCE_CONFLICT
COMMIT_DUPLICATE_TRANSACTION_UID: Final = 0x0131

_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})


def categorise(status: int) -> Category:
    """Tell how to go on after any status, also one that no table has (PS3.7 §C.1)."""
    if status == SUCCESS:
        return Category.SUCCESS
    if status in (PENDING, PENDING_UNSUPPORTED_KEYS):
        return Category.PENDING
    if status == CANCEL:
        return Category.CANCEL
    if status in _WARNINGS or status & 0xF000 == 0xB000:
        return Category.WARNING
    return Category.FAILURE


def meaning(status: int, service: str = "") -> StatusMeaning:
    """Look a status up in its service's table, then in the general one, else name its category.

    Args:
        status: as received.
        service: a key of `BY_SERVICE`, or '' for services without a table of their own.
    """
    for row in (*BY_SERVICE.get(service, ()), *GENERAL):
        if status & row.mask == row.code:
            return row
    category = categorise(status)
    return StatusMeaning(status, 0xFFFF, category, f"Unlisted {category.value} {status:04X}")
