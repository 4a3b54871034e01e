"""What C-MOVE promises: to the requester, and to the destination."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pacsd.dicom.association import Association
from pacsd.dicom.scu.retrieve import Retrieved, move, move_proposal
from pacsd.model.query import Root
from pacsd.model.syntax import DEFLATED_EXPLICIT_LITTLE as DEFLATED
from tests.dicom.fakes import CT, EXPLICIT, IMPLICIT, JPEG_LOSSLESS, MR
from tests.dicom.scp.retrieving import Site, study


def test_every_object_reaches_the_destination_in_its_stored_syntax_with_its_originator() -> None:
    site = Site()
    site.add(3)
    site.add(2, sop_class=MR, syntax=JPEG_LOSSLESS)
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_completed) == (0x0000, 5)
    assert site.store.uids == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    assert [syntax for _, syntax, _ in site.store.objects] == [EXPLICIT] * 3 + [JPEG_LOSSLESS] * 2
    command = site.store.objects[0][0]
    assert command.MoveOriginatorApplicationEntityTitle == "ASKER"
    assert command.MoveOriginatorMessageID == 1
    assert len(site.receiver.associations) == 1
    assert not site.receiver.associations[0].is_open


def test_an_unknown_destination_is_a801() -> None:
    site = Site()
    site.add(1)
    assert site.move(study("1.2.3"), "NOBODY").status == 0xA801


def test_a_destination_that_cannot_be_reached_fails_every_object_with_the_cause() -> None:
    site = Site()
    site.add(3)
    del site.net.hosts[11113]
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_failed, result.n_completed) == (0xA702, 3, 0)
    assert result.failed_uids == ("1.0", "1.1", "1.2")
    assert "WS1" in result.comment


def test_a_destination_that_aborts_instead_of_answering_fails_every_object() -> None:
    site = Site()
    site.add(2)
    site.receiver.acceptor.association_requested = (  # type: ignore[method-assign]
        lambda association, request: association.abort()
    )
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_failed) == (0xA702, 2)
    assert site.storage.n_open == 0


def test_a_deflated_object_of_odd_length_is_sent_with_the_padding_that_the_standard_demands() -> None:
    site = Site()
    site.add(1, syntax=DEFLATED, dataset=b"\x01\x02\x03")
    site.add(1, syntax=DEFLATED, dataset=b"\x01\x02")
    assert site.move(study("1.2.3")).status == 0x0000
    assert [data for _, _, data in site.store.objects] == [b"\x01\x02\x03\x00", b"\x01\x02"]
    assert site.storage.n_open == 0


def test_nothing_to_send_needs_no_association() -> None:
    site = Site()
    assert site.move(study("1.2.3")).status == 0x0000
    assert site.receiver.associations == []


def test_more_classes_than_one_association_has_contexts_go_over_several_one_after_the_other() -> None:
    site = Site()
    for number in range(150):
        site.add(1, sop_class=f"{CT}.{number + 1}")
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_completed) == (0x0000, 150)
    assert len(site.receiver.associations) == 3
    assert all(len(association.contexts) <= 128 for association in site.receiver.associations)


def test_a_page_of_the_same_kind_goes_on_over_the_same_association() -> None:
    site = Site()
    site.add(1200)
    result = site.move(study("1.2.3"))
    assert result.n_completed == 1200
    assert len(site.receiver.associations) == 1


def test_an_object_that_kills_the_receiver_fails_alone_and_the_rest_goes_on() -> None:
    site = Site()
    site.add(6)
    site.store.cut_at = {"1.2"}
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_completed, result.failed_uids) == (0xB000, 5, ("1.2",))
    assert site.store.uids == ["1.0", "1.1", "1.3", "1.4", "1.5"]
    assert site.storage.n_open == 0


def test_a_receiver_that_dies_each_time_is_given_up_and_everything_left_fails() -> None:
    site = Site()
    site.add(6)
    site.store.cut_at = {f"1.{number}" for number in range(6)}
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_failed) == (0xA702, 6)
    assert len(site.receiver.associations) == 2
    assert result.failed_uids == tuple(f"1.{number}" for number in range(6))
    assert site.storage.n_open == 0


def test_a_silent_receiver_times_out_and_the_requester_hears_from_us_meanwhile() -> None:
    site = Site()
    site.add(1)
    site.store.silent = True
    result = site.move(study("1.2.3"), within_s=200.0)
    assert (result.status, result.n_failed) == (0xA702, 1)
    assert len(site.progress) > 30
    assert not site.net.clock.getDelayedCalls() or not site.receiver.associations[0].is_open


def test_a_receiver_that_takes_nothing_any_more_is_cut_and_others_are_served() -> None:
    site = Site()
    site.add(2, dataset=bytes(5_000_000))
    begin = site.store.begin

    def stall(association: Association, *more: object) -> object:
        association.transport.other.is_stalled = True
        return begin(association, *more)  # type: ignore[arg-type]

    site.store.begin = stall  # type: ignore[method-assign, assignment]
    result = site.move(study("1.2.3"), within_s=600.0)
    assert (result.status, result.n_failed) == (0xA702, 2)
    assert not any(association.transport.is_open for association in site.receiver.associations)
    assert site.storage.n_open == 0
    site.store.begin = begin  # type: ignore[method-assign]
    assert site.move(study("1.2.3")).status == 0x0000


def test_pending_responses_are_not_sent_for_every_object() -> None:
    site = Site()
    site.add(300)
    site.move(study("1.2.3"))
    assert 1 <= len(site.progress) < 5


def test_the_requesters_cancel_stops_the_sending() -> None:
    site = Site()
    site.add(50)
    association = site.connect([move_proposal(Root.STUDY)])
    (context,) = association.contexts.values()
    begin = site.store.begin

    def cancel_at_the_third(*args: object) -> object:
        if len(site.store.objects) == 2:
            association.cancel(context.id, 1)
        return begin(*args)  # type: ignore[arg-type]

    site.store.begin = cancel_at_the_third  # type: ignore[method-assign, assignment]
    result: Retrieved = site.net.run(move(association, Root.STUDY, study("1.2.3"), "WS1"))
    assert result.status == 0xFE00
    assert 3 <= result.n_completed < 50
    assert result.n_remaining + result.n_completed == 50
    assert not site.receiver.associations[0].is_open


def test_a_destination_gets_no_more_associations_at_once_than_it_takes() -> None:
    site = Site(max_associations=1)
    site.add(1)
    site.store.silent = True
    first, second = (site.connect([move_proposal(Root.STUDY)]) for _ in range(2))
    ended: list[object] = []
    for asker in (first, second):
        Deferred.fromCoroutine(move(asker, Root.STUDY, study("1.2.3"), "WS1")).addBoth(ended.append)
        site.net.wire.pump()
    assert len(site.receiver.associations) == 1
    (context,) = second.contexts.values()
    second.cancel(context.id, 1)
    site.net.wire.pump()
    (cancelled,) = ended
    assert isinstance(cancelled, Retrieved)
    assert cancelled.status == 0xFE00
    site.store.silent = False
    for _ in range(3000):
        site.net.clock.advance(0.1)
        site.net.wire.pump()
    assert len(ended) == 2
    third = site.move(study("1.2.3"))
    assert third.status == 0x0000


def test_a_throttled_destination_gets_its_rate_and_no_more() -> None:
    site = Site(bytes_per_s=100_000)
    site.add(10, dataset=bytes(50_000))
    started_s = site.net.clock.seconds()
    result = site.move(study("1.2.3"), within_s=60.0)
    took_s = site.net.clock.seconds() - started_s
    assert (result.status, result.n_completed) == (0x0000, 10)
    assert 3.0 <= took_s <= 6.0


def test_the_stored_syntax_is_proposed_in_a_context_of_its_own() -> None:
    site = Site()
    site.add(1, syntax=JPEG_LOSSLESS)
    site.move(study("1.2.3"))
    syntaxes = {context.transfer_syntax for context in site.receiver.associations[0].contexts.values()}
    assert JPEG_LOSSLESS in syntaxes
    assert syntaxes & {EXPLICIT, IMPLICIT}


def test_a_class_uid_that_is_none_fails_alone() -> None:
    site = Site()
    site.add(1, sop_class="not a uid")
    site.add(1)
    result = site.move(study("1.2.3"))
    assert (result.status, result.n_completed, result.failed_uids) == (0xB000, 1, ("1.0",))
