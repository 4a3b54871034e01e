"""Two machines joined in memory: the protocol tested against itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacsd.dicom.wire.association import (
    Aborted,
    ArtimStart,
    ArtimStop,
    AssociationAccepted,
    AssociationMachine,
    AssociationRejected,
    AssociationRequested,
    AssociationStateError,
    CloseTransport,
    DataFragment,
    Event,
    OpenTransport,
    ReleaseConfirmed,
    ReleaseRequested,
)
from pacsd.dicom.wire.dimse import message
from pacsd.dicom.wire.pdu import (
    AssociateAccept,
    AssociateRequest,
    PresentationContextProposal,
    PresentationContextResult,
    encode_pdu,
)

Split = Callable[[bytes], list[bytes]]

REQUEST = AssociateRequest("PACSD", "CT1", (PresentationContextProposal(1, "1.2", ("1.2.840.10008.1.2",)),))
ACCEPT = AssociateAccept("PACSD", "CT1", (PresentationContextResult(1, 0, "1.2.840.10008.1.2"),))


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def carry(source: AssociationMachine, target: AssociationMachine, split: Split = whole) -> list[Event]:
    events: list[Event] = []
    for piece in split(source.data_to_send()):
        events += target.receive(piece)
    return events


def established(split: Split = whole) -> tuple[AssociationMachine, AssociationMachine]:
    requestor, acceptor = AssociationMachine("requestor"), AssociationMachine("acceptor")
    assert requestor.request(REQUEST) == [OpenTransport()]
    assert requestor.transport_connected() == []
    assert acceptor.transport_connected() == [ArtimStart()]
    assert carry(requestor, acceptor, split) == [ArtimStop(), AssociationRequested(REQUEST)]
    assert acceptor.accept(ACCEPT) == []
    assert carry(acceptor, requestor, split) == [AssociationAccepted(ACCEPT)]
    return requestor, acceptor


def received(events: list[Event]) -> bytes:
    return b"".join(bytes(event.data) for event in events if isinstance(event, DataFragment))


def live_and_release(split: Split) -> None:
    requestor, acceptor = established(split)
    payload = bytes(range(256)) * 20
    requestor.send_data(message(1, b"command!", payload, 1024))
    assert received(carry(requestor, acceptor, split)) == b"command!" + payload
    requestor.release()
    assert carry(requestor, acceptor, split) == [ReleaseRequested()]
    acceptor.send_data(message(1, b"late answer", None, 1024))
    assert received(carry(acceptor, requestor, split)) == b"late answer"
    assert acceptor.accept_release() == [ArtimStart()]
    assert carry(acceptor, requestor, split) == [ReleaseConfirmed(), CloseTransport()]
    assert acceptor.transport_closed() == [ArtimStop()]
    assert requestor.transport_closed() == []


@pytest.mark.parametrize("split", [whole, byte_by_byte])
def test_an_association_is_opened_used_and_released(split: Split) -> None:
    live_and_release(split)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_an_association_works_however_the_network_splits_it(sizes: list[int]) -> None:
    def at_random(data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        for size in cycle(sizes):
            if not data:
                return pieces
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    live_and_release(at_random)


def test_a_release_collision_ends_well_for_both() -> None:
    requestor, acceptor = established()
    requestor.release()
    acceptor.release()
    crossing = requestor.data_to_send()
    assert carry(acceptor, requestor) == [ReleaseRequested()]
    assert acceptor.receive(crossing) == [ReleaseRequested()]
    with pytest.raises(AssociationStateError):
        acceptor.accept_release()
    assert requestor.accept_release() == []
    assert carry(requestor, acceptor) == [ReleaseConfirmed()]
    assert acceptor.accept_release() == [ArtimStart()]
    assert carry(acceptor, requestor) == [ReleaseConfirmed(), CloseTransport()]
    assert acceptor.transport_closed() == [ArtimStop()]


def test_a_rejection_reaches_the_requestor() -> None:
    requestor, acceptor = AssociationMachine("requestor"), AssociationMachine("acceptor")
    requestor.request(REQUEST)
    requestor.transport_connected()
    acceptor.transport_connected()
    carry(requestor, acceptor)
    assert acceptor.reject(2, 3, 2) == [ArtimStart()]
    assert carry(acceptor, requestor) == [AssociationRejected(2, 3, 2), CloseTransport()]
    assert acceptor.artim_expired() == [ArtimStop(), CloseTransport()]


def test_an_abort_reaches_the_peer_with_source_and_reason() -> None:
    requestor, acceptor = established()
    assert acceptor.abort(source=2, reason=6) == [ArtimStart()]
    assert carry(acceptor, requestor) == [Aborted(2, 6, by_peer=True), CloseTransport()]


def test_nothing_is_heard_after_an_abort_in_the_same_bytes() -> None:
    requestor, acceptor = established()
    requestor.send_data(message(1, b"before", None, 1024))
    requestor.abort()
    events = acceptor.receive(requestor.data_to_send() + message(1, b"after", None, 1024))
    assert received(events) == b"before"
    assert events[1:] == [Aborted(0, 0, by_peer=True), CloseTransport()]


def test_a_lost_connection_aborts_once() -> None:
    requestor, acceptor = established()
    for machine in (requestor, acceptor):
        (lost,) = machine.transport_closed()
        assert isinstance(lost, Aborted)
        assert lost.connection_lost
        assert machine.transport_closed() == []


def test_a_silent_peer_is_closed_by_artim_and_a_late_timer_does_nothing() -> None:
    acceptor = AssociationMachine("acceptor")
    acceptor.transport_connected()
    assert acceptor.artim_expired() == [ArtimStop(), CloseTransport()]
    assert established()[1].artim_expired() == []


def test_an_oversize_data_pdu_is_answered_before_its_body_comes() -> None:
    acceptor = AssociationMachine("acceptor", max_pdu_length=16384)
    acceptor.transport_connected()
    acceptor.receive(encode_pdu(REQUEST))
    acceptor.accept(ACCEPT)
    acceptor.data_to_send()
    assert acceptor.receive(b"\x04\0\x40\0\0\0") == [Aborted(2, 6, by_peer=False), ArtimStart()]
    assert acceptor.data_to_send() == b"\x07\0\0\0\0\x04\0\0\2\6"
    assert acceptor.receive(bytes(100_000)) == []
    assert acceptor.n_held_bytes == 0


def test_a_server_that_stops_can_close_a_connection_that_asked_nothing() -> None:
    acceptor = AssociationMachine("acceptor")
    acceptor.transport_connected()
    assert acceptor.abort() == [ArtimStop(), CloseTransport()]
    assert acceptor.data_to_send() == b""


def test_an_acceptor_does_not_request() -> None:
    with pytest.raises(AssociationStateError):
        AssociationMachine("acceptor").request(REQUEST)


def test_an_answer_after_the_peer_ended_the_association_has_no_effect() -> None:
    acceptor = AssociationMachine("acceptor")
    acceptor.transport_connected()
    events = acceptor.receive(encode_pdu(REQUEST) + b"garbage")
    assert events == [
        ArtimStop(),
        AssociationRequested(REQUEST),
        Aborted(2, 1, by_peer=False),
        ArtimStart(),
    ]
    assert acceptor.has_ended
    acceptor.data_to_send()
    assert acceptor.accept(ACCEPT) == acceptor.reject(1, 1, 1) == acceptor.send_data(b"") == []
    acceptor.transport_closed()
    assert acceptor.release() == acceptor.accept_release() == []
    assert acceptor.data_to_send() == b""


def test_a_machine_serves_one_association() -> None:
    requestor, _ = established()
    requestor.transport_closed()
    with pytest.raises(AssociationStateError):
        requestor.request(REQUEST)
