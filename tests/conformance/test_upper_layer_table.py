"""PS3.8 Table 9-10: all 13 states by 19 events, from a table written down a second time, by action."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from pacsd.dicom.wire.association import (
    Aborted,
    ArtimStart,
    ArtimStop,
    AssociationMachine,
    AssociationStateError,
    CloseTransport,
    DataFragment,
    Event,
)
from pacsd.dicom.wire.dimse import message
from pacsd.dicom.wire.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    PresentationContextProposal,
    PresentationContextResult,
    ReleaseRequest,
    ReleaseResponse,
    encode_pdu,
)
from pacsd.dicom.wire.state import TABLE, Cause, State

# action, events, states, next state
BY_ACTION = [
    ("AE-1", "1", "1", 4),
    ("AE-2", "2", "4", 5),
    ("AE-3", "3", "5", 6),
    ("AE-4", "4", "5", 1),
    ("AE-5", "5", "1", 2),
    ("AE-6", "6", "2", 3),
    ("AE-7", "7", "3", 6),
    ("AE-8", "8", "3", 13),
    ("DT-1", "9", "6", 6),
    ("DT-2", "10", "6", 6),
    ("AR-1", "11", "6", 7),
    ("AR-2", "12", "6", 8),
    ("AR-3", "13", "7 11", 1),
    ("AR-4", "14", "8 12", 13),
    ("AR-5", "17", "13", 1),
    ("AR-6", "10", "7", 7),
    ("AR-7", "9", "8", 8),
    ("AR-8", "12", "7", 10),
    ("AR-9", "14", "9", 11),
    ("AR-10", "13", "10", 12),
    ("AA-1", "3 4 10 12 13 19", "2", 13),
    ("AA-1", "15", "3 5 6 7 8 9 10 11 12", 13),
    ("AA-2", "16 18", "2 13", 1),
    ("AA-2", "15", "4", 1),
    ("AA-3", "16", "3 5 6 7 8 9 10 11 12", 1),
    ("AA-4", "17", "3 4 5 6 7 8 9 10 11 12", 1),
    ("AA-5", "17", "2", 1),
    ("AA-6", "3 4 10 12 13", "13", 13),
    ("AA-7", "6 19", "13", 13),
    ("AA-8", "3 4 6 10 12 13 19", "3 8 9 12", 13),
    ("AA-8", "6 10 12 13 19", "5", 13),
    ("AA-8", "3 4 6 13 19", "6", 13),
    ("AA-8", "3 4 6 19", "7", 13),
    ("AA-8", "3 4 6 10 12 19", "10 11", 13),
]
EXPECTED = {
    (int(event), int(state)): (action, following)
    for action, events, states, following in BY_ACTION
    for event, state in product(events.split(), states.split())
}
CELLS = list(product(range(1, 20), range(1, 14)))

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
REQUEST = AssociateRequest("PACSD", "CT1", (PresentationContextProposal(1, CT, (IMPLICIT,)),))
ACCEPT = AssociateAccept("PACSD", "CT1", (PresentationContextResult(1, 0, IMPLICIT),))
P_DATA = message(1, b"command", None, 16384)

PEER_SENDS: dict[int, bytes] = {
    3: encode_pdu(ACCEPT),
    4: encode_pdu(AssociateReject(1, 1, 7)),
    6: encode_pdu(REQUEST),
    10: P_DATA,
    12: encode_pdu(ReleaseRequest()),
    13: encode_pdu(ReleaseResponse()),
    16: encode_pdu(Abort(0, 0)),
    19: b"\x42\0\0\0\0\0",
}
LOCAL_CALLS: dict[int, Callable[[AssociationMachine], list[Event]]] = {
    7: lambda machine: machine.accept(ACCEPT),
    8: lambda machine: machine.reject(1, 1, 3),
    9: lambda machine: machine.send_data(P_DATA),
    11: lambda machine: machine.release(),
    14: lambda machine: machine.accept_release(),
}


def machine_in(state: int) -> AssociationMachine:
    """A machine brought to `state` by what really leads there."""
    acceptor, requestor = AssociationMachine("acceptor"), AssociationMachine("requestor")
    if state in (4, 5, 9, 11):
        machine = requestor
        machine.request(REQUEST)
    else:
        machine = acceptor
    if state not in (1, 4):
        machine.transport_connected()
    if state in (9, 11):
        machine.receive(PEER_SENDS[3])
    if state not in (1, 2, 4, 5, 9, 11):
        machine.receive(PEER_SENDS[6])
    if state in (6, 7, 8, 10, 12):
        machine.accept(ACCEPT)
    if state in (7, 9, 10, 11, 12):
        machine.release()
    if state in (8, 9, 10, 11, 12):
        machine.receive(PEER_SENDS[12])
    if state == 11:
        machine.accept_release()
    if state == 12:
        machine.receive(PEER_SENDS[13])
    if state == 13:
        machine.reject(1, 1, 3)
    machine.data_to_send()
    assert machine.state == state
    return machine


def let_happen(machine: AssociationMachine, event: int) -> list[Event]:
    if event in PEER_SENDS:
        return machine.receive(PEER_SENDS[event])
    if event in LOCAL_CALLS:
        return LOCAL_CALLS[event](machine)
    if event == 1:
        machine.role = "requestor"
        return machine.request(REQUEST)
    if event in (2, 5):
        machine.role = "requestor" if event == 2 else "acceptor"
        return machine.transport_connected()
    if event == 15:
        return machine.abort()
    return machine.transport_closed() if event == 17 else machine.artim_expired()


def decode_abort(sent: bytes) -> tuple[int, int]:
    assert sent[:6] == b"\x07\0\0\0\0\x04"
    assert len(sent) == 10
    return sent[8], sent[9]


def test_the_table_has_no_other_cells_than_the_standard() -> None:
    assert {(cause.value, state.value) for cause, state in TABLE} == set(EXPECTED)


def test_actions_agree_with_an_independent_implementation() -> None:
    theirs = {
        (int(event.removeprefix("Evt")), int(state.removeprefix("Sta"))): action
        for (event, state), action in TRANSITION_TABLE.items()
    }
    assert {(cause.value, state.value): cell.action for (cause, state), cell in TABLE.items()} == theirs


@pytest.mark.parametrize(("event", "state"), CELLS)
def test_each_cell_leads_to_the_standards_next_state(event: int, state: int) -> None:
    machine = machine_in(state)
    expected = EXPECTED.get((event, state))
    if expected is not None:
        let_happen(machine, event)
        assert TABLE[Cause(event), State(state)].action == expected[0]
        assert machine.state == expected[1]
    elif event == 15:
        closes = CloseTransport() in machine.abort()
        assert closes == (state != 1)
        assert machine.state == State.STA1_IDLE
    elif event in (1, 2, 5) or (event in LOCAL_CALLS and state != 13):
        with pytest.raises(AssociationStateError):
            let_happen(machine, event)
        assert machine.state == state
    else:
        assert let_happen(machine, event) == []
        assert machine.state == state
        assert machine.data_to_send() == b""


@pytest.mark.parametrize(("event", "state"), [cell for cell in EXPECTED if EXPECTED[cell][0] == "AA-8"])
def test_what_is_unexpected_is_aborted_by_the_provider_with_its_reason(event: int, state: int) -> None:
    machine = machine_in(state)
    events = let_happen(machine, event)
    reason = 1 if event == 19 else 2
    assert decode_abort(machine.data_to_send()) == (2, reason)
    assert events == [Aborted(2, reason, by_peer=False), ArtimStart()]


@pytest.mark.parametrize(("event", "state"), [cell for cell in EXPECTED if EXPECTED[cell][0] == "AA-1"])
def test_before_an_association_and_by_own_wish_the_abort_is_the_users(event: int, state: int) -> None:
    machine = machine_in(state)
    assert let_happen(machine, event) == [ArtimStart()]
    assert decode_abort(machine.data_to_send()) == (0, 0)


@pytest.mark.parametrize(
    ("event", "state"), [cell for cell in EXPECTED if EXPECTED[cell][0] in ("AE-4", "AR-3", "AA-2", "AA-3")]
)
def test_an_end_without_further_words_closes_the_transport(event: int, state: int) -> None:
    machine = machine_in(state)
    assert let_happen(machine, event)[-1] == CloseTransport()
    assert machine.data_to_send() == b""


@pytest.mark.parametrize("state", [6, 7])
def test_data_is_handed_on_while_we_may_receive(state: int) -> None:
    (fragment,) = machine_in(state).receive(P_DATA)
    assert isinstance(fragment, DataFragment)
    assert bytes(fragment.data) == b"command"


@pytest.mark.parametrize(
    ("event", "state", "sent"),
    [
        (2, 4, REQUEST),
        (7, 3, ACCEPT),
        (8, 3, AssociateReject(1, 1, 3)),
        (11, 6, ReleaseRequest()),
        (14, 8, ReleaseResponse()),
        (14, 9, ReleaseResponse()),
        (14, 12, ReleaseResponse()),
    ],
)
def test_the_pdu_of_the_action_goes_out(event: int, state: int, sent: Pdu) -> None:
    machine = machine_in(state)
    let_happen(machine, event)
    assert machine.data_to_send() == encode_pdu(sent)


@pytest.mark.parametrize("state", [6, 8])
def test_data_goes_out_also_while_the_peer_waits_for_release(state: int) -> None:
    machine = machine_in(state)
    assert machine.can_send_data
    machine.send_data(P_DATA)
    assert machine.data_to_send() == P_DATA


def test_a_requestor_meets_a_release_collision_in_sta9_and_an_acceptor_in_sta10() -> None:
    assert TABLE[Cause(12), State(7)].next_states == (State(9), State(10))
    assert machine_in(9).role == "requestor"
    assert machine_in(10).role == "acceptor"


def test_a_request_of_another_protocol_version_is_rejected_by_the_provider() -> None:
    machine = machine_in(2)
    wrong = AssociateRequest("PACSD", "CT1", (), protocol_version=2)
    assert machine.receive(encode_pdu(wrong)) == [ArtimStop(), ArtimStart()]
    assert machine.data_to_send() == encode_pdu(AssociateReject(1, 2, 2))
    assert machine.state == State.STA13_AWAITING_CLOSE
