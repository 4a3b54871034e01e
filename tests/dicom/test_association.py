"""What an association promises its peer, over an in-memory transport."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pacsd.dicom.association import AssociationSettings
from pacsd.dicom.dispatch import Request, Services
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scp.echo import echo
from pacsd.dicom.wire import dimse, events
from pacsd.model.errors import DestinationUnknown
from tests.dicom.loopback import CT, VERIFICATION, Link, Site


def echo_request(message_id: int = 1) -> dimse.Command:
    return dimse.Command(
        CommandField=dimse.C_ECHO_RQ,
        MessageID=message_id,
        AffectedSOPClassUID=VERIFICATION,
        CommandDataSetType=dimse.NO_DATASET,
    )


def associated(services: Services | None = None, **admission: Any) -> Link:
    link = Site(services or Services({dimse.C_ECHO_RQ: echo}), **admission).connect()
    link.associate(VERIFICATION, CT)
    assert link.saw(events.AssociationAccepted)
    return link


def test_echo_is_answered_with_success_and_its_message_id() -> None:
    link = associated()
    link.send(echo_request(7))
    (answer,) = link.answers()
    assert (answer.CommandField, answer.Status, answer.MessageIDBeingRespondedTo) == (0x8030, 0, 7)


def test_nagles_algorithm_is_off() -> None:
    assert associated().transport.no_delay is True


def test_a_request_without_handler_is_answered_unrecognised_operation() -> None:
    link = associated(Services())
    link.send(echo_request())
    assert [answer.Status for answer in link.answers()] == [0x0211]


@pytest.mark.parametrize(
    ("error", "status", "comment"),
    [
        (DestinationUnknown("who is that"), 0xA801, "who is that"),
        (ValueError("name of a patient"), 0x0110, "internal error"),
    ],
)
def test_a_handlers_failure_becomes_its_status_and_never_quotes_data(
    error: Exception, status: int, comment: str
) -> None:
    async def fail(request: Request) -> None:
        raise error

    link = associated(Services({dimse.C_ECHO_RQ: fail}))
    link.send(echo_request())
    (answer,) = link.answers()
    assert (answer.Status, answer.ErrorComment) == (status, comment)


def test_c_cancel_reaches_the_request_that_it_names() -> None:
    requests: list[Request] = []

    async def wait(request: Request) -> None:
        requests.append(request)
        cancelled: Deferred[None] = Deferred()
        request.on_cancel.append(lambda: cancelled.callback(None))
        await cancelled
        request.association.respond(request.context.id, response_to(request.command, 0xFE00))

    link = associated(Services({dimse.C_ECHO_RQ: wait}))
    link.send(echo_request(3))
    assert link.answers() == []
    link.send(dimse.Command(CommandField=dimse.C_CANCEL_RQ, MessageIDBeingRespondedTo=3, CommandDataSetType=0x0101))
    assert [answer.Status for answer in link.answers()] == [0xFE00]


def test_a_vanished_peer_cancels_what_runs_for_it() -> None:
    requests: list[Request] = []

    async def wait(request: Request) -> None:
        requests.append(request)
        await Deferred()

    link = associated(Services({dimse.C_ECHO_RQ: wait}))
    link.send(echo_request())
    link.exchange()
    link.lose()
    assert requests[0].cancelled


def test_a_release_is_confirmed_only_after_what_runs_has_answered() -> None:
    going_on: Deferred[None] = Deferred()

    async def slow(request: Request) -> None:
        await going_on
        request.association.respond(request.context.id, response_to(request.command, 0))

    link = associated(Services({dimse.C_ECHO_RQ: slow}))
    link.send(echo_request())
    link.exchange()
    link.peer.release()
    link.exchange()
    assert not link.saw(events.ReleaseConfirmed)
    going_on.callback(None)
    link.exchange()
    assert link.saw(events.ReleaseConfirmed)
    assert link.transport.disconnecting or link.ours.is_open is False


def test_a_data_set_over_the_bound_is_refused_without_being_kept() -> None:
    link = associated(Services({dimse.C_ECHO_RQ: echo}, max_dataset_bytes=1000))
    command = echo_request()
    command.CommandDataSetType = dimse.HAS_DATASET
    link.send(command, b"x" * 2000)
    assert [answer.Status for answer in link.answers()] == [0x0213]


def test_an_oversize_pdu_is_answered_by_an_abort_of_the_provider_for_an_invalid_value() -> None:
    link = associated()
    link.ours.dataReceived(b"\x04\x00" + (1 << 30).to_bytes(4, "big"))
    link.exchange()
    (abort,) = [event for event in link.peer_events if isinstance(event, events.Aborted)]
    assert (abort.source, abort.reason, abort.by_peer) == (2, 6, True)


def test_data_on_a_context_that_was_not_accepted_is_answered_by_an_abort() -> None:
    link = associated()
    link.send(echo_request(), context_id=99)
    link.exchange()
    assert link.saw(events.Aborted)


def test_a_peer_that_never_asks_is_cut_when_artim_ends() -> None:
    site = Site(settings=AssociationSettings(artim_s=30.0))
    link = site.connect()
    site.clock.advance(29.0)
    assert not link.transport.disconnecting
    site.clock.advance(2.0)
    assert link.transport.disconnecting


def test_an_idle_association_is_aborted_after_its_time() -> None:
    link = associated(settings=AssociationSettings(max_pdu_length=16384, idle_timeout_s=100.0))
    for _ in range(10):
        link.site.clock.advance(15.0)
        link.exchange()
    assert link.saw(events.Aborted)


def test_a_peer_that_drips_single_bytes_of_a_message_is_aborted() -> None:
    link = associated(settings=AssociationSettings(max_pdu_length=16384, dimse_timeout_s=20.0))
    for byte in b"\x04\x00\x00\x00\x10\x00" + b"\x00" * 10:
        if link.saw(events.Aborted):
            break
        link.ours.dataReceived(bytes([byte]))
        link.site.clock.advance(5.0)
        link.exchange()
    assert link.saw(events.Aborted)


def test_an_association_in_use_is_not_aborted_for_idleness() -> None:
    link = associated(settings=AssociationSettings(max_pdu_length=16384, idle_timeout_s=100.0))
    for n in range(20):
        link.site.clock.advance(15.0)
        link.send(echo_request(n + 1))
        assert len(link.answers()) == 1


def rejection(link: Link) -> tuple[int, int, int]:
    (event,) = [event for event in link.peer_events if isinstance(event, events.AssociationRejected)]
    return event.result, event.source, event.reason


def test_an_unknown_called_title_is_rejected_by_name() -> None:
    link = Site().connect()
    link.associate(called="OTHER")
    assert rejection(link) == (1, 1, 7)


def test_an_unregistered_calling_title_is_rejected_by_name() -> None:
    link = Site().connect()
    link.associate(calling="STRANGER")
    assert rejection(link) == (1, 1, 3)


def test_an_unregistered_calling_title_may_only_echo_where_the_site_says_so() -> None:
    link = Site(unknown_peers="echo").connect()
    link.associate(VERIFICATION, CT, calling="STRANGER")
    assert [context.abstract_syntax for context in link.ours.contexts.values()] == [VERIFICATION]


def test_the_limit_for_one_peer_rejects_it_for_now_and_others_are_served() -> None:
    site = Site(known=("CT1", "MR1"), max_associations_per_peer=1)
    site.connect().associate()
    second = site.connect()
    second.associate()
    assert rejection(second) == (2, 3, 2)
    other = site.connect()
    other.associate(calling="MR1")
    assert other.saw(events.AssociationAccepted)


def test_the_limit_in_all_is_told_and_ends_when_an_association_ends() -> None:
    site = Site(max_associations=1)
    first = site.connect()
    first.associate()
    assert site.limits[-1] is True
    first.peer.release()
    first.exchange()
    first.lose()
    assert site.limits[-1] is False
    again = site.connect()
    again.associate()
    assert again.saw(events.AssociationAccepted)


def test_connections_beyond_the_bound_are_closed_at_once() -> None:
    site = Site(max_connections=1)
    site.connect()
    assert site.acceptor.buildProtocol(None) is None
