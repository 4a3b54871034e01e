"""Tables of the conformance statement, each made of what the server works by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from pacsd.config.render import toml_value
from pacsd.config.sections import Dicom
from pacsd.config.settings import setting_of
from pacsd.dicom.acceptor import SUPPORTED
from pacsd.dicom.conformance_keys import KINDS, SAMPLES, KeyRow, kinds_of, rows
from pacsd.dicom.storage_classes import STORAGE_SOP_CLASSES
from pacsd.dicom.wire import negotiate, sop_classes, status
from pacsd.dicom.wire.status import StatusMeaning
from pacsd.model.attributes import Level
from pacsd.model.charset import is_known_charset, normalised_term
from pacsd.model.errors import (
    Busy,
    CannotUnderstand,
    DatasetMismatch,
    DestinationUnknown,
    DuplicateInstance,
    NoSuchInstance,
    OutOfResources,
    PacsError,
)
from pacsd.model.syntax import TRANSFER_SYNTAXES, transfer_syntax
from pacsd.storage.transcode import ROUTES
from pacsd.workflow.commitment import InvalidRequest, Reason
from pacsd.workflow.query import LEVELS, UNIQUE_KEYS

NAMES: Final[dict[str, str]] = {
    sop_classes.VERIFICATION: "Verification",
    sop_classes.STORAGE_COMMITMENT_PUSH: "Storage Commitment Push Model",
    sop_classes.PATIENT_ROOT_FIND: "Patient Root Query/Retrieve Information Model - FIND",
    sop_classes.PATIENT_ROOT_MOVE: "Patient Root Query/Retrieve Information Model - MOVE",
    sop_classes.PATIENT_ROOT_GET: "Patient Root Query/Retrieve Information Model - GET",
    sop_classes.STUDY_ROOT_FIND: "Study Root Query/Retrieve Information Model - FIND",
    sop_classes.STUDY_ROOT_MOVE: "Study Root Query/Retrieve Information Model - MOVE",
    sop_classes.STUDY_ROOT_GET: "Study Root Query/Retrieve Information Model - GET",
    sop_classes.PATIENT_STUDY_ONLY_FIND: "Patient/Study Only Query/Retrieve Information Model - FIND (retired)",
    sop_classes.PATIENT_STUDY_ONLY_MOVE: "Patient/Study Only Query/Retrieve Information Model - MOVE (retired)",
    sop_classes.PATIENT_STUDY_ONLY_GET: "Patient/Study Only Query/Retrieve Information Model - GET (retired)",
}

AS_SCU: Final = frozenset(
    {
        sop_classes.VERIFICATION,
        sop_classes.PATIENT_ROOT_FIND,
        sop_classes.STUDY_ROOT_FIND,
        sop_classes.STUDY_ROOT_MOVE,
        sop_classes.STUDY_ROOT_GET,
    }
)
"""What `pacsd peer` asks of others, beside storage."""

CHARSETS: Final[tuple[tuple[int, str], ...]] = (
    (6, "Default repertoire (ASCII)"),
    (100, "Latin alphabet No. 1"),
    (101, "Latin alphabet No. 2"),
    (109, "Latin alphabet No. 3"),
    (110, "Latin alphabet No. 4"),
    (148, "Latin alphabet No. 5"),
    (203, "Latin alphabet No. 9"),
    (144, "Cyrillic"),
    (127, "Arabic"),
    (126, "Greek"),
    (138, "Hebrew"),
    (166, "Thai"),
    (13, "Japanese, JIS X 0201"),
    (87, "Japanese, JIS X 0208 (Kanji)"),
    (159, "Japanese, JIS X 0212 (supplementary Kanji)"),
    (149, "Korean, KS X 1001"),
    (58, "Simplified Chinese, GB 2312"),
)
"""ISO registration number and repertoire (PS3.3 Tables C.12-2 to C.12-4)."""
WHOLE_CHARSETS: Final = (
    ("ISO_IR 192", "Unicode, UTF-8"),
    ("GB18030", "Chinese, GB 18030"),
    ("GBK", "Chinese, GBK"),
)


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [_line(head), "|" + "---|" * len(head), *map(_line, body)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def tag_text(tag: int) -> str:
    """(gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def services() -> str:
    """SOP classes beside storage, with our roles."""
    listed = [(NAMES[uid], f"`{uid}`", "yes" if uid in AS_SCU else "no", "yes") for uid in SUPPORTED]
    current = sum(not retired for _, retired in STORAGE_SOP_CLASSES.values())
    retired = len(STORAGE_SOP_CLASSES) - current
    storage = ("Storage, every class of the annex", f"{current} current, {retired} retired", "yes", "yes")
    other = ("Storage, private and unknown classes (a setting, on by default)", "any other UID", "yes", "yes")
    return table(("SOP class", "UID", "SCU", "SCP"), [*listed, storage, other])


def storage_classes() -> str:
    """All storage classes of the standard."""
    return table(
        ("SOP class", "UID", "retired"),
        ((name, f"`{uid}`", "retired" if retired else "") for uid, (name, retired) in STORAGE_SOP_CLASSES.items()),
    )


def message_syntaxes() -> str:
    """Transfer syntaxes of all services but storage, the preferred first."""
    chosen = negotiate.MESSAGE_TRANSFER_SYNTAXES
    return table(("transfer syntax", "UID"), ((transfer_syntax(uid).name, f"`{uid}`") for uid in chosen))


def stored_syntaxes() -> str:
    """Transfer syntaxes of storage, and what each can become."""
    return table(
        ("transfer syntax", "UID", "can become", "by"),
        (
            (syntax.name, f"`{uid}`", _targets(uid), ROUTES[uid].library if uid in ROUTES else "")
            for uid, syntax in TRANSFER_SYNTAXES.items()
        ),
    )


def _targets(uid: str) -> str:
    if uid not in ROUTES:
        return "kept and sent as it is"
    short = {target: transfer_syntax(target).name.replace(" VR", "").replace(" Endian", "") for target in becomes(uid)}
    return ", ".join(short.values())


def becomes(uid: str) -> tuple[str, ...]:
    """What objects of a stored syntax can be converted to."""
    return tuple(target for target in ROUTES[uid].becomes if target != uid)


def levels() -> str:
    """Levels and unique keys of each information model."""
    return table(
        ("information model", "levels, with their unique keys"),
        (
            (root.value, ", ".join(f"{level.name} {tag_text(UNIQUE_KEYS[level])}" for level in of_root))
            for root, of_root in LEVELS.items()
        ),
    )


def keys(level: Level) -> str:
    """The keys of a level that are columns or kept counts and lists."""
    head = ("attribute", "tag", "VR", "type", "matching")
    return table(head, ((row.keyword, tag_text(row.tag), row.vr, _type(row), matching(row)) for row in rows(level)))


def _type(row: KeyRow) -> str:
    return "unique" if row.is_unique else "kept" if row.is_computed else "column"


def matching(row: KeyRow) -> str:
    """The kinds of matching of a key in words."""
    if not row.kinds:
        return "returned only"
    combined = "combined date-time" if row.combined else ""
    return ", ".join(word for word in (*_words(row.vr, row.kinds), combined) if word)


def _words(vr: str, kinds: Sequence[str]) -> list[str]:
    words = [KINDS[kind] for kind in kinds]
    if vr == "PN":
        words.insert(0, "single value")
    return ["universal", *words]


def kinds_by_vr() -> str:
    """Kinds of matching of attributes without a column, by VR; the tag is one that no table names."""
    unlisted = 0x00189999
    return table(("VR", "matching"), ((vr, ", ".join(_words(vr, kinds_of(unlisted, vr)))) for vr in SAMPLES))


def sent(service: str, cases: Iterable[tuple[int, str]]) -> str:
    """Statuses that we answer by: code, meaning by PS3.4 and PS3.7, when."""
    listed = []
    for code, when in cases:
        meant = status.meaning(code, service)
        listed.append((f"{code:04X}", meant.category.value, meant.text, when))
    return table(("status", "category", "meaning", "when"), listed)


_INTERNAL: Final = (status.PROCESSING_FAILURE, "a fault in this product; the log has the cause, the peer hasn't")
_TOO_LONG: Final = (status.RESOURCE_LIMITATION, "the data set of the request is longer than 4 MiB")
_REPEATED: Final = (status.DUPLICATE_INVOCATION, "the Message ID is that of a request still being answered")
_UNDERSTOOD: Final = (CannotUnderstand.dicom_status, "the identifier can't be decoded")
_IDENTIFIER: Final = (
    DatasetMismatch.dicom_status,
    "the level is none of the model's; a unique key above it is missing or not one value; a key can't be matched",
)

STORE_CASES: Final = (
    (status.SUCCESS, "the object is durable and can be found; also when the same object is held already"),
    (OutOfResources.dicom_status, "no pool can take it (full, failed), or the database can't serve"),
    (Busy.dicom_status, "more objects wait to be written than the limits allow; send again later"),
    (DuplicateInstance.dicom_status, 'other bytes are held under its UID and `on_conflict` is "refuse"'),
    (CannotUnderstand.dicom_status, "the request names no SOP instance"),
)
FIND_CASES: Final = (
    (status.SUCCESS, "no more matches"),
    (status.PENDING, "a match; every key is supported"),
    (status.PENDING_UNSUPPORTED_KEYS, "a match; a key of another level was not supported"),
    (status.CANCEL, "C-CANCEL was received"),
    (OutOfResources.dicom_status, "more matches than `query_limit`, the database is away, or too many queries wait"),
    _IDENTIFIER, _UNDERSTOOD, _REPEATED, _TOO_LONG, _INTERNAL,
)  # fmt: skip
RETRIEVE_CASES: Final = (
    (status.SUCCESS, "all sub-operations succeeded; also when nothing matched"),
    (status.PENDING, "sub-operations go on; at once, then as they progress, at least every second"),
    (status.SUBOPERATIONS_WITH_FAILURES, "some sub-operations failed or had a warning"),
    (status.CANCEL, "C-CANCEL was received"),
    (status.OUT_OF_RESOURCES_MATCHES, "the matches can't be counted: the database can't serve"),
    (status.OUT_OF_RESOURCES_SUBOPERATIONS, "every sub-operation failed, or none could be performed"),
    _IDENTIFIER, _UNDERSTOOD, _REPEATED, _TOO_LONG, _INTERNAL,
)  # fmt: skip
MOVE_CASES: Final = (
    *RETRIEVE_CASES[:6],
    (DestinationUnknown.dicom_status, "the Move Destination is not a registered peer"),
    *RETRIEVE_CASES[6:],
)
ACTION_CASES: Final = (
    (status.SUCCESS, "the request is kept in the database; the report will follow"),
    (NoSuchInstance.dicom_status, "not the well-known SOP instance"),
    (InvalidRequest.dicom_status, "no Transaction UID, no or incomplete references, or more than 50,000"),
    (status.NO_SUCH_SOP_CLASS, "not the Storage Commitment Push Model"),
    (status.NO_SUCH_ACTION, "Action Type ID other than 1"),
    (status.RESOURCE_LIMITATION, "the database can't keep the request, or its data set is longer than 4 MiB"),
    (PacsError.dicom_status, "a fault in this product"),
)
REASON_CASES: Final[dict[Reason, str]] = {
    Reason.PROCESSING_FAILURE: "its file is missing or damaged: its bytes, read back now, don't have its digest",
    Reason.NO_SUCH_INSTANCE: "it isn't held",
    Reason.CLASS_INSTANCE_CONFLICT: "it is held as an instance of another SOP class",
    Reason.DUPLICATE_TRANSACTION: "the Transaction UID is in use for other references",
    Reason.RESOURCE_LIMITATION: "it isn't in as many copies as the rule demands, after an hour's patience",
}


def reasons() -> str:
    """Failure Reasons of storage commitment."""
    head = ("Failure Reason (0008,1197)", "when")
    return table(head, ((f"{int(reason):04X}", when) for reason, when in REASON_CASES.items()))


def received(service: str) -> str:
    """How our SCU takes each status of a service."""
    codes = {status.SUCCESS} if service == "storage" else {status.SUCCESS, status.PENDING, status.CANCEL}
    mine = [*(row for row in status.GENERAL if row.code in codes), *status.BY_SERVICE.get(service, ())]
    return table(("status", "category", "meaning"), ((_code(row), row.category.value, row.text) for row in mine))


def _code(row: StatusMeaning) -> str:
    n_open = f"{row.mask:04X}".count("0")
    return f"{row.code:04X}"[: 4 - n_open] + "x" * n_open


REJECTIONS: Final = (
    (negotiate.PROTOCOL_VERSION_NOT_SUPPORTED, "protocol version without bit 0"),
    (negotiate.APPLICATION_CONTEXT_NOT_SUPPORTED, "an application context other than DICOM's"),
    (negotiate.CALLED_AE_NOT_RECOGNISED, "the called title is none of ours (unless `any_called_ae`)"),
    (negotiate.CALLING_AE_NOT_RECOGNISED, 'the calling title is not registered and `unknown_peers` is "reject"'),
    (negotiate.LOCAL_LIMIT_EXCEEDED, "`max_associations` or `max_associations_per_peer` is reached"),
    (negotiate.TEMPORARY_CONGESTION, "the database can't say now who the peer is"),
)


def rejections() -> str:
    """A-ASSOCIATE-RJ that we send."""
    results = {negotiate.REJECTED_PERMANENT: "rejected-permanent", negotiate.REJECTED_TRANSIENT: "rejected-transient"}
    listed = [(results[told.result], str(told.source), str(told.reason), when) for told, when in REJECTIONS]
    return table(("result", "source", "reason", "when"), listed)


def charsets() -> str:
    """Specific Character Sets that are read and written."""
    listed = []
    for number, name in CHARSETS:
        terms = {normalised_term(f"ISO_IR {number}"), normalised_term(f"ISO 2022 IR {number}")}
        known = sorted((term for term in terms if is_known_charset((term,))), reverse=True)
        listed.append((name, ", ".join(f"`{term}`" for term in known)))
    listed += [(name, f"`{term}`") for term, name in WHOLE_CHARSETS]
    return table(("repertoire", "defined terms"), listed)


def parameters() -> str:
    """The settings that bear on DICOM, with their defaults."""
    return table(
        ("setting", "default", "what it decides"),
        (
            (f"`{field.name}`", f"`{toml_value(field.default)}`", setting_of(field).about)
            for field in dataclasses.fields(Dicom)
        ),
    )
