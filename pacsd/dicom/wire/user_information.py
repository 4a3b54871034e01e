"""The user information item (50H) of A-ASSOCIATE: what PS3.7 Annex D negotiates beside contexts.

    51H maximum length            4 bytes
    52H implementation class UID  text
    53H asynchronous operations   2 bytes invoked, 2 bytes performed
    54H role selection            UID with length, 1 byte SCU, 1 byte SCP
    55H implementation version    text
    56H extended negotiation      UID with length, service class' own bytes
    57H common extended           class, service class, list of related classes, each with length
    58H user identity             1 byte type, 1 byte "answer wanted", two fields with length
    59H user identity response    field with length

Each has the header that `items` shows; lengths are two bytes, big endian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

from pacsd.dicom.wire.items import counted, invalid, item, uid_bytes, uid_text, walk_items, with_length

MAX_SUB_ITEMS: Final = 1024
ABSENT_MAX_PDU_LENGTH: Final = 16384
"""Assumed for a peer that omits item 51H, which PS3.8 §D.1 demands: every known receiver takes this much."""

_ASYNC_WINDOW = Struct(">HH")


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """Roles that the requestor proposes for one SOP class, or the acceptor's answer (PS3.7 §D.3.3.4).

    Both booleans speak of the requestor: `scp=True` means that it may act as SCP.
    """

    sop_class: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """Abilities within one SOP class, in bytes that its service class defines (PS3.7 §D.3.3.5)."""

    sop_class: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """Which service class a SOP class belongs to, and whom it resembles (PS3.7 §D.3.3.6)."""

    sop_class: str
    service_class: str
    related_general_sop_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who uses the requesting application (PS3.7 §D.3.3.7).

    `identity_type`: 1 user name, 2 name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON web token.
    The fields stay out of `repr`, so out of logs.
    """

    identity_type: int
    positive_response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """Everything of item 50H; a request carries `user_identity`, an answer `user_identity_response`.

    `max_pdu_length` counts a P-DATA-TF PDU without its 6 byte header, 0 meaning no limit (PS3.8 §D.1).
    `async_window` is (invoked, performed), each 0 meaning no limit; None when not negotiated, that is (1, 1).
    """

    max_pdu_length: int = ABSENT_MAX_PDU_LENGTH
    implementation_class_uid: str = ""
    implementation_version: str = ""
    async_window: tuple[int, int] | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = None


def encode_user_information(user: UserInformation) -> bytes:
    """Encode item 50H with its header. Raises ValueError when a field exceeds its length."""
    parts = [item(0x51, user.max_pdu_length.to_bytes(4, "big"))]
    if user.implementation_class_uid:
        parts.append(item(0x52, uid_bytes(user.implementation_class_uid)))
    if user.async_window is not None:
        parts.append(item(0x53, _ASYNC_WINDOW.pack(*user.async_window)))
    parts.extend(
        item(0x54, with_length(uid_bytes(role.sop_class)) + bytes((role.scu, role.scp)))
        for role in user.role_selections
    )
    if user.implementation_version:
        parts.append(item(0x55, user.implementation_version.encode("latin-1")))
    parts.extend(
        item(0x56, with_length(uid_bytes(extended.sop_class)) + extended.information)
        for extended in user.extended_negotiations
    )
    for common in user.common_extended_negotiations:
        related = b"".join(with_length(uid_bytes(uid)) for uid in common.related_general_sop_classes)
        classes = with_length(uid_bytes(common.sop_class)) + with_length(uid_bytes(common.service_class))
        parts.append(item(0x57, classes + with_length(related)))
    if user.user_identity is not None:
        identity = user.user_identity
        head = bytes((identity.identity_type, identity.positive_response_requested))
        parts.append(item(0x58, head + with_length(identity.primary) + with_length(identity.secondary)))
    if user.user_identity_response is not None:
        parts.append(item(0x59, with_length(user.user_identity_response)))
    return item(0x50, b"".join(parts))


def decode_user_information(body: bytes, at: int, end: int) -> UserInformation:
    """Read the value of item 50H from `body[at:end]`.

    Sub-items may come in any order; unknown ones are passed over; of one that may occur once the last counts.

    Raises:
        PduError: reason 6, when a length contradicts what holds it.
    """
    single: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for item_type, start, stop in walk_items(body, at, end, MAX_SUB_ITEMS):
        if item_type in _SINGLE:
            name, decode = _SINGLE[item_type]
            single[name] = decode(body, start, stop)
        elif item_type in _REPEATED:
            name, decode = _REPEATED[item_type]
            lists.setdefault(name, []).append(decode(body, start, stop))
    single.update((name, tuple(values)) for name, values in lists.items())
    return UserInformation(**single)


def _max_length(body: bytes, at: int, end: int) -> int:
    if end - at != 4:
        raise invalid("maximum length item isn't 4 bytes")
    return int.from_bytes(body[at:end], "big")


def _uid(body: bytes, at: int, end: int) -> str:
    return uid_text(body[at:end])


def _async_window(body: bytes, at: int, end: int) -> tuple[int, int]:
    if end - at != _ASYNC_WINDOW.size:
        raise invalid("asynchronous operations item isn't 4 bytes")
    invoked, performed = _ASYNC_WINDOW.unpack_from(body, at)
    return invoked, performed


def _role_selection(body: bytes, at: int, end: int) -> RoleSelection:
    sop_class, after = counted(body, at, end, "role selection")
    if end - after < 2:
        raise invalid("role selection without roles")
    return RoleSelection(uid_text(sop_class), body[after] == 1, body[after + 1] == 1)


def _extended(body: bytes, at: int, end: int) -> ExtendedNegotiation:
    sop_class, after = counted(body, at, end, "extended negotiation")
    return ExtendedNegotiation(uid_text(sop_class), body[after:end])


def _common_extended(body: bytes, at: int, end: int) -> CommonExtendedNegotiation:
    sop_class, after = counted(body, at, end, "common extended negotiation")
    service_class, after = counted(body, after, end, "common extended negotiation's service class")
    related: list[str] = []
    if after < end:
        listed, _ = counted(body, after, end, "related general SOP classes")
        at, end, body = 0, len(listed), listed
        while at < end:
            uid, at = counted(body, at, end, "related general SOP class")
            if len(related) == MAX_SUB_ITEMS:
                raise invalid(f"more than {MAX_SUB_ITEMS} related general SOP classes")
            related.append(uid_text(uid))
    return CommonExtendedNegotiation(uid_text(sop_class), uid_text(service_class), tuple(related))


def _user_identity(body: bytes, at: int, end: int) -> UserIdentity:
    if end - at < 2:
        raise invalid("user identity without a type")
    primary, after = counted(body, at + 2, end, "user identity's primary field")
    secondary = b""
    if after < end:
        secondary, _ = counted(body, after, end, "user identity's secondary field")
    return UserIdentity(body[at], body[at + 1] == 1, primary, secondary)


def _user_identity_response(body: bytes, at: int, end: int) -> bytes:
    return counted(body, at, end, "user identity response")[0]


_Decode = Callable[[bytes, int, int], object]

_SINGLE: Final[dict[int, tuple[str, _Decode]]] = {
    0x51: ("max_pdu_length", _max_length),
    0x52: ("implementation_class_uid", _uid),
    0x53: ("async_window", _async_window),
    0x55: ("implementation_version", _uid),
    0x58: ("user_identity", _user_identity),
    0x59: ("user_identity_response", _user_identity_response),
}
_REPEATED: Final[dict[int, tuple[str, _Decode]]] = {
    0x54: ("role_selections", _role_selection),
    0x56: ("extended_negotiations", _extended),
    0x57: ("common_extended_negotiations", _common_extended),
}
