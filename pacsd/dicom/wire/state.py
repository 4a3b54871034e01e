"""The upper layer's state machine: 13 states, 19 events, 28 actions (PS3.8 §9.2, Table 9-10).

`TABLE` is the standard's table, cell by cell. An action is a function from what caused it to a list of
effects; it holds no socket, no timer and no state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pacsd.dicom.wire.events import (
    Aborted,
    ArtimStart,
    ArtimStop,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CloseTransport,
    Event,
    OpenTransport,
    ReleaseConfirmed,
    ReleaseRequested,
)
from pacsd.dicom.wire.items import (
    REASON_NOT_SPECIFIED,
    REASON_UNEXPECTED_PDU,
    SERVICE_PROVIDER,
    SERVICE_USER,
    PduError,
)
from pacsd.dicom.wire.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    ReleaseRequest,
    ReleaseResponse,
    encode_pdu,
)
from pacsd.dicom.wire.receive import DataFragment


class State(IntEnum):
    """Where an association stands (PS3.8 Tables 9-1 to 9-5)."""

    STA1_IDLE = 1
    STA2_AWAITING_REQUEST = 2
    STA3_DECIDING = 3
    STA4_CONNECTING = 4
    STA5_AWAITING_ANSWER = 5
    STA6_READY = 6
    STA7_RELEASING = 7
    STA8_PEER_RELEASING = 8
    STA9_COLLISION_REQUESTOR_DECIDING = 9
    STA10_COLLISION_ACCEPTOR_AWAITING = 10
    STA11_COLLISION_REQUESTOR_AWAITING = 11
    STA12_COLLISION_ACCEPTOR_DECIDING = 12
    STA13_AWAITING_CLOSE = 13


class Cause(IntEnum):
    """What may happen to an association: the standard's events Evt1 to Evt19."""

    EVT1_REQUEST = 1
    EVT2_CONNECTED = 2
    EVT3_ACCEPT_RECEIVED = 3
    EVT4_REJECT_RECEIVED = 4
    EVT5_CONNECTION_CAME = 5
    EVT6_REQUEST_RECEIVED = 6
    EVT7_ACCEPT = 7
    EVT8_REJECT = 8
    EVT9_SEND_DATA = 9
    EVT10_DATA_RECEIVED = 10
    EVT11_RELEASE = 11
    EVT12_RELEASE_RECEIVED = 12
    EVT13_RELEASE_ANSWER_RECEIVED = 13
    EVT14_ACCEPT_RELEASE = 14
    EVT15_ABORT = 15
    EVT16_ABORT_RECEIVED = 16
    EVT17_CONNECTION_CLOSED = 17
    EVT18_ARTIM_EXPIRED = 18
    EVT19_INVALID_PDU = 19


@dataclass(frozen=True, slots=True)
class Send:
    """These bytes go to the peer, after what was sent before."""

    data: bytes


Argument = Pdu | DataFragment | PduError | bytes | None
Effect = Send | Event

# 3|13: AE-6 goes to Sta3, or to Sta13 when the provider itself rejects.
# 9|10: AR-8 goes to Sta9 at the association's requestor, to Sta10 at its acceptor.
_TABLE = """
      Sta1     Sta2        Sta3     Sta4    Sta5     Sta6     Sta7     Sta8     Sta9     Sta10    Sta11    Sta12    Sta13
Evt1  AE-1:4   .           .        .       .        .        .        .        .        .        .        .        .
Evt2  .        .           .        AE-2:5  .        .        .        .        .        .        .        .        .
Evt3  .        AA-1:13     AA-8:13  .       AE-3:6   AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-6:13
Evt4  .        AA-1:13     AA-8:13  .       AE-4:1   AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-6:13
Evt5  AE-5:2   .           .        .       .        .        .        .        .        .        .        .        .
Evt6  .        AE-6:3|13   AA-8:13  .       AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-7:13
Evt7  .        .           AE-7:6   .       .        .        .        .        .        .        .        .        .
Evt8  .        .           AE-8:13  .       .        .        .        .        .        .        .        .        .
Evt9  .        .           .        .       .        DT-1:6   .        AR-7:8   .        .        .        .        .
Evt10 .        AA-1:13     AA-8:13  .       AA-8:13  DT-2:6   AR-6:7   AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-6:13
Evt11 .        .           .        .       .        AR-1:7   .        .        .        .        .        .        .
Evt12 .        AA-1:13     AA-8:13  .       AA-8:13  AR-2:8   AR-8:9|10 AA-8:13 AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-6:13
Evt13 .        AA-1:13     AA-8:13  .       AA-8:13  AA-8:13  AR-3:1   AA-8:13  AA-8:13  AR-10:12 AR-3:1   AA-8:13  AA-6:13
Evt14 .        .           .        .       .        .        .        AR-4:13  AR-9:11  .        .        AR-4:13  .
Evt15 .        .           AA-1:13  AA-2:1  AA-1:13  AA-1:13  AA-1:13  AA-1:13  AA-1:13  AA-1:13  AA-1:13  AA-1:13  .
Evt16 .        AA-2:1      AA-3:1   .       AA-3:1   AA-3:1   AA-3:1   AA-3:1   AA-3:1   AA-3:1   AA-3:1   AA-3:1   AA-2:1
Evt17 .        AA-5:1      AA-4:1   AA-4:1  AA-4:1   AA-4:1   AA-4:1   AA-4:1   AA-4:1   AA-4:1   AA-4:1   AA-4:1   AR-5:1
Evt18 .        AA-2:1      .        .       .        .        .        .        .        .        .        .        AA-2:1
Evt19 .        AA-1:13     AA-8:13  .       AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-8:13  AA-7:13
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Transition:
    """One cell of Table 9-10: the action's name, then the next state, or the two it may be."""

    action: str
    next_states: tuple[State, ...]


def _parse(text: str) -> dict[tuple[Cause, State], Transition]:
    table = {}
    for row in text.strip().splitlines()[1:]:
        name, *cells = row.split()
        for state, cell in zip(State, cells, strict=True):
            if cell != ".":
                action, _, following = cell.partition(":")
                states = tuple(State(int(number)) for number in following.split("|"))
                table[Cause(int(name.removeprefix("Evt"))), state] = Transition(action, states)
    return table


TABLE: Final = _parse(_TABLE)


def is_acceptable(request: AssociateRequest) -> bool:
    """Whether the provider itself lets a request through to its user: protocol version 1 (PS3.8 §9.3.1)."""
    return request.protocol_version & 1 == 1


def next_state(transition: Transition, argument: Argument, *, is_requestor: bool) -> State:
    """Decide between a cell's two states where it has two."""
    first, second = transition.next_states[0], transition.next_states[-1]
    if transition.action == "AE-6":
        return first if isinstance(argument, AssociateRequest) and is_acceptable(argument) else second
    return first if is_requestor else second


def effects_of(action: str, argument: Argument) -> list[Effect]:
    """Perform an action of PS3.8 Tables 9-6 to 9-9 upon the PDU, fragment or error that caused it."""
    return _ACTIONS[action](argument)


def _send(pdu: Argument) -> Send:
    if not isinstance(
        pdu, AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort
    ):
        raise TypeError(f"{type(pdu).__name__} is not a PDU")
    return Send(encode_pdu(pdu))


def _ae_1(_: Argument) -> list[Effect]:
    return [OpenTransport()]


def _ae_2(argument: Argument) -> list[Effect]:
    return [_send(argument)]


def _ae_3(argument: Argument) -> list[Effect]:
    return [AssociationAccepted(argument)] if isinstance(argument, AssociateAccept) else []


def _ae_4(argument: Argument) -> list[Effect]:
    if not isinstance(argument, AssociateReject):
        return [CloseTransport()]
    return [AssociationRejected(argument.result, argument.source, argument.reason), CloseTransport()]


def _ae_5(_: Argument) -> list[Effect]:
    return [ArtimStart()]


def _ae_6(argument: Argument) -> list[Effect]:
    if isinstance(argument, AssociateRequest) and is_acceptable(argument):
        return [ArtimStop(), AssociationRequested(argument)]
    return [ArtimStop(), Send(encode_pdu(AssociateReject(1, 2, 2))), ArtimStart()]


def _ae_8(argument: Argument) -> list[Effect]:
    return [_send(argument), ArtimStart()]


def _dt_1(argument: Argument) -> list[Effect]:
    return [Send(argument)] if isinstance(argument, bytes) else []


def _dt_2(argument: Argument) -> list[Effect]:
    return [argument] if isinstance(argument, DataFragment) else []


def _ar_1(_: Argument) -> list[Effect]:
    return [Send(encode_pdu(ReleaseRequest()))]


def _ar_2(_: Argument) -> list[Effect]:
    return [ReleaseRequested()]


def _ar_3(_: Argument) -> list[Effect]:
    return [ReleaseConfirmed(), CloseTransport()]


def _ar_4(_: Argument) -> list[Effect]:
    return [Send(encode_pdu(ReleaseResponse())), ArtimStart()]


def _ar_5(_: Argument) -> list[Effect]:
    return [ArtimStop()]


def _ar_9(_: Argument) -> list[Effect]:
    return [Send(encode_pdu(ReleaseResponse()))]


def _ar_10(_: Argument) -> list[Effect]:
    return [ReleaseConfirmed()]


def _aa_1(argument: Argument) -> list[Effect]:
    abort = argument if isinstance(argument, Abort) else Abort(SERVICE_USER, REASON_NOT_SPECIFIED)
    return [Send(encode_pdu(abort)), ArtimStart()]


def _aa_2(_: Argument) -> list[Effect]:
    return [ArtimStop(), CloseTransport()]


def _aa_3(argument: Argument) -> list[Effect]:
    abort = argument if isinstance(argument, Abort) else Abort(SERVICE_PROVIDER, REASON_NOT_SPECIFIED)
    return [Aborted(abort.source, abort.reason, by_peer=True), CloseTransport()]


def _aa_4(_: Argument) -> list[Effect]:
    return [Aborted(SERVICE_PROVIDER, REASON_NOT_SPECIFIED, by_peer=True, connection_lost=True)]


def _aa_6(_: Argument) -> list[Effect]:
    return []


def _aa_7(argument: Argument) -> list[Effect]:
    return [Send(encode_pdu(Abort(SERVICE_PROVIDER, _reason(argument))))]


def _aa_8(argument: Argument) -> list[Effect]:
    abort = Abort(SERVICE_PROVIDER, _reason(argument))
    return [Send(encode_pdu(abort)), Aborted(abort.source, abort.reason, by_peer=False), ArtimStart()]


def _reason(argument: Argument) -> int:
    return argument.reason if isinstance(argument, PduError) else REASON_UNEXPECTED_PDU


_ACTIONS: Final[dict[str, Callable[[Argument], list[Effect]]]] = {
    "AE-1": _ae_1,
    "AE-2": _ae_2,
    "AE-3": _ae_3,
    "AE-4": _ae_4,
    "AE-5": _ae_5,
    "AE-6": _ae_6,
    "AE-7": _ae_2,
    "AE-8": _ae_8,
    "DT-1": _dt_1,
    "DT-2": _dt_2,
    "AR-1": _ar_1,
    "AR-2": _ar_2,
    "AR-3": _ar_3,
    "AR-4": _ar_4,
    "AR-5": _ar_5,
    "AR-6": _dt_2,
    "AR-7": _dt_1,
    "AR-8": _ar_2,
    "AR-9": _ar_9,
    "AR-10": _ar_10,
    "AA-1": _aa_1,
    "AA-2": _aa_2,
    "AA-3": _aa_3,
    "AA-4": _aa_4,
    "AA-5": _ar_5,
    "AA-6": _aa_6,
    "AA-7": _aa_7,
    "AA-8": _aa_8,
}
