"""The six PDUs that open and end an association, as values (PS3.8 §9.3.2 to §9.3.8).

Every PDU begins with

    0     PDU type
    1     reserved
    2-5   length of what follows, big endian

P-DATA-TF isn't here: `receive` walks it in place and `dimse` builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from pacsd.dicom.wire.items import (
    REASON_INVALID_PARAMETER,
    REASON_NOT_SPECIFIED,
    REASON_UNEXPECTED_PARAMETER,
    REASON_UNEXPECTED_PDU,
    REASON_UNRECOGNISED_PARAMETER,
    REASON_UNRECOGNISED_PDU,
    SERVICE_PROVIDER,
    SERVICE_USER,
    PduError,
    ae_title_bytes,
    ae_title_text,
    invalid,
    item,
    uid_bytes,
    uid_text,
    walk_items,
)
from pacsd.dicom.wire.user_information import (
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
    decode_user_information,
    encode_user_information,
)

__all__ = [
    "APPLICATION_CONTEXT",
    "REASON_INVALID_PARAMETER",
    "REASON_NOT_SPECIFIED",
    "REASON_UNEXPECTED_PARAMETER",
    "REASON_UNEXPECTED_PDU",
    "REASON_UNRECOGNISED_PARAMETER",
    "REASON_UNRECOGNISED_PDU",
    "SERVICE_PROVIDER",
    "SERVICE_USER",
    "Abort",
    "AssociateAccept",
    "AssociateReject",
    "AssociateRequest",
    "CommonExtendedNegotiation",
    "ExtendedNegotiation",
    "Pdu",
    "PduError",
    "PresentationContextProposal",
    "PresentationContextResult",
    "ReleaseRequest",
    "ReleaseResponse",
    "RoleSelection",
    "UserIdentity",
    "UserInformation",
    "decode_pdu",
    "encode_pdu",
]

A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
A_RELEASE_RQ: Final = 0x05
A_RELEASE_RP: Final = 0x06
A_ABORT: Final = 0x07

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
MAX_CONTEXTS: Final = 128
MAX_TRANSFER_SYNTAXES: Final = 256
"""Per presentation context. The standard sets no bound; it defines fewer than seventy."""

_MAX_ITEMS: Final = 512
_HEADER = Struct(">BxI")
_ASSOCIATE = Struct(">H2x16s16s32x")


@dataclass(frozen=True, slots=True)
class PresentationContextProposal:
    """One thing that the requestor wants to talk about, and the encodings it can (PS3.8 §9.3.2.2)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresentationContextResult:
    """The acceptor's word on one context: `result` 0 accepts, 1 to 4 refuse (PS3.8 Table 9-18).

    `transfer_syntax` has a meaning only when accepted.
    """

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ. Titles come without padding; an absent application context is ''."""

    called_ae: str
    calling_ae: str
    presentation_contexts: tuple[PresentationContextProposal, ...]
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC. The titles repeat the request's and are not tested by its receiver."""

    called_ae: str
    calling_ae: str
    presentation_results: tuple[PresentationContextResult, ...]
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ: `result` 1 for good, 2 for now; source and reason as in PS3.8 Table 9-21."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ."""


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """A-RELEASE-RP."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT: source 0 the service user (reason then means nothing), 2 the provider (PS3.8 Table 9-26)."""

    source: int
    reason: int


Pdu = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort


def encode_pdu(pdu: Pdu) -> bytes:
    """Encode a whole PDU with its header.

    Raises:
        ValueError: a title, UID or list is longer than its field.
    """
    match pdu:
        case AssociateRequest():
            contexts = b"".join(_encode_proposal(context) for context in pdu.presentation_contexts)
            return _encode_associate(A_ASSOCIATE_RQ, pdu, contexts)
        case AssociateAccept():
            contexts = b"".join(_encode_result(context) for context in pdu.presentation_results)
            return _encode_associate(A_ASSOCIATE_AC, pdu, contexts)
        case AssociateReject():
            return _with_header(A_ASSOCIATE_RJ, bytes((0, pdu.result, pdu.source, pdu.reason)))
        case ReleaseRequest():
            return _with_header(A_RELEASE_RQ, bytes(4))
        case ReleaseResponse():
            return _with_header(A_RELEASE_RP, bytes(4))
        case Abort():
            return _with_header(A_ABORT, bytes((0, 0, pdu.source, pdu.reason)))


def decode_pdu(pdu_type: int, body: bytes) -> Pdu:
    """Read a PDU's value, which is all after its 6 byte header.

    Raises:
        PduError: reason 1 for a type that isn't one of the six, 5 for an item of another PDU, 6 for
            contradicting lengths, counts or context ids.
    """
    decode = _DECODERS.get(pdu_type)
    if decode is None:
        raise PduError(f"PDU type {pdu_type:#04x} is unknown", REASON_UNRECOGNISED_PDU)
    return decode(body)


def _with_header(pdu_type: int, body: bytes) -> bytes:
    return _HEADER.pack(pdu_type, len(body)) + body


def _encode_associate(pdu_type: int, pdu: AssociateRequest | AssociateAccept, contexts: bytes) -> bytes:
    titles = ae_title_bytes(pdu.called_ae), ae_title_bytes(pdu.calling_ae)
    fixed = _ASSOCIATE.pack(pdu.protocol_version, *titles)
    application = item(0x10, uid_bytes(pdu.application_context))
    user = encode_user_information(pdu.user_information)
    return _with_header(pdu_type, fixed + application + contexts + user)


def _encode_proposal(context: PresentationContextProposal) -> bytes:
    syntaxes = b"".join(item(0x40, uid_bytes(uid)) for uid in context.transfer_syntaxes)
    abstract = item(0x30, uid_bytes(context.abstract_syntax))
    return item(0x20, bytes((context.id, 0, 0, 0)) + abstract + syntaxes)


def _encode_result(context: PresentationContextResult) -> bytes:
    head = bytes((context.id, 0, context.result, 0))
    return item(0x21, head + item(0x40, uid_bytes(context.transfer_syntax)))


def _decode_request(body: bytes) -> AssociateRequest:
    version, called, calling = _decode_fixed(body)
    application, spans, user = _decode_variable(body, context_item=0x20, foreign_item=0x21)
    proposals = tuple(_decode_proposal(body, at, end) for at, end in spans)
    _check_ids([proposal.id for proposal in proposals])
    return AssociateRequest(called, calling, proposals, user, application, version)


def _decode_accept(body: bytes) -> AssociateAccept:
    version, called, calling = _decode_fixed(body)
    application, spans, user = _decode_variable(body, context_item=0x21, foreign_item=0x20)
    results = tuple(_decode_result(body, at, end) for at, end in spans)
    _check_ids([result.id for result in results])
    return AssociateAccept(called, calling, results, user, application, version)


def _decode_fixed(body: bytes) -> tuple[int, str, str]:
    if len(body) < _ASSOCIATE.size:
        raise invalid("association PDU ends before its items")
    version, called, calling = _ASSOCIATE.unpack_from(body)
    return version, ae_title_text(called), ae_title_text(calling)


def _decode_variable(
    body: bytes, context_item: int, foreign_item: int
) -> tuple[str, list[tuple[int, int]], UserInformation]:
    application = ""
    spans: list[tuple[int, int]] = []
    user = UserInformation()
    for item_type, start, end in walk_items(body, _ASSOCIATE.size, len(body), _MAX_ITEMS):
        if item_type == context_item:
            if end - start < 4:
                raise invalid("presentation context without an id")
            spans.append((start, end))
        elif item_type == 0x10:
            application = uid_text(body[start:end])
        elif item_type == 0x50:
            user = decode_user_information(body, start, end)
        elif item_type == foreign_item:
            raise PduError(f"item {item_type:#04x} in this PDU", REASON_UNEXPECTED_PARAMETER)
    if len(spans) > MAX_CONTEXTS:
        raise invalid(f"more than {MAX_CONTEXTS} presentation contexts")
    return application, spans, user


def _decode_proposal(body: bytes, at: int, end: int) -> PresentationContextProposal:
    abstract = ""
    transfers: list[str] = []
    for item_type, start, stop in walk_items(body, at + 4, end, MAX_TRANSFER_SYNTAXES + 1):
        if item_type == 0x30:
            abstract = uid_text(body[start:stop])
        elif item_type == 0x40:
            transfers.append(uid_text(body[start:stop]))
    return PresentationContextProposal(body[at], abstract, tuple(transfers))


def _decode_result(body: bytes, at: int, end: int) -> PresentationContextResult:
    transfer = ""
    for item_type, start, stop in walk_items(body, at + 4, end, MAX_TRANSFER_SYNTAXES):
        if item_type == 0x40:
            transfer = uid_text(body[start:stop])
    return PresentationContextResult(body[at], body[at + 2], transfer)


def _check_ids(ids: list[int]) -> None:
    if len(set(ids)) != len(ids):
        raise invalid("presentation context id used twice")
    if any(not context_id & 1 for context_id in ids):
        raise invalid("presentation context id is even")


def _decode_reject(body: bytes) -> AssociateReject:
    _check_four_bytes(body)
    return AssociateReject(body[1], body[2], body[3])


def _decode_release_request(body: bytes) -> ReleaseRequest:
    _check_four_bytes(body)
    return ReleaseRequest()


def _decode_release_response(body: bytes) -> ReleaseResponse:
    _check_four_bytes(body)
    return ReleaseResponse()


def _decode_abort(body: bytes) -> Abort:
    _check_four_bytes(body)
    return Abort(body[2], body[3])


def _check_four_bytes(body: bytes) -> None:
    if len(body) != 4:
        raise invalid("this PDU has 4 bytes after its header")


_DECODERS: Final[dict[int, Callable[[bytes], Pdu]]] = {
    A_ASSOCIATE_RQ: _decode_request,
    A_ASSOCIATE_AC: _decode_accept,
    A_ASSOCIATE_RJ: _decode_reject,
    A_RELEASE_RQ: _decode_release_request,
    A_RELEASE_RP: _decode_release_response,
    A_ABORT: _decode_abort,
}
