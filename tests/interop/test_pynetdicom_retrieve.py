"""pynetdicom as a destination: slow, refusing, warning, failing, aborting; and as the one who asks and cancels."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from pynetdicom import AE, evt

from tests.interop import frames
from tests.interop.objects import BIG, CT, EXPLICIT, IMPLICIT, MR, make_study, wire_objects
from tests.interop.peers import (
    GET,
    MOVE,
    Inbox,
    associate,
    counts,
    driving,
    get,
    identifier,
    move,
    receiver,
    responses_of,
    store,
)


@pytest.fixture
def study(site, patient_id):
    made = make_study(patient_id, 6)
    store(site, wire_objects(made))
    return made


def whole(study):
    return identifier("STUDY", StudyInstanceUID=study.uid)


def failed_uids(last) -> list[str]:
    value = [] if last is None else last.get("FailedSOPInstanceUIDList", [])
    return [value] if isinstance(value, str) else list(value)


def test_all_goes_well(site, study, new_peer):
    title, port = new_peer()
    inbox = Inbox()
    with receiver(port, [(CT, [EXPLICIT])], inbox, title=title):
        responses, last = move(site, whole(study), title, calling="ASKER")
    assert (responses[-1].Status, counts(responses[-1]), last) == (0, (6, 0, 0), None)
    assert "NumberOfRemainingSuboperations" not in responses[-1]
    assert responses[0].Status == 0xFF00
    assert responses[0].NumberOfRemainingSuboperations == 6
    assert {(arrival.calling, arrival.originator, arrival.originator_message) for arrival in inbox.arrivals} == {
        ("PACSD", "ASKER", 77)
    }
    assert [arrival.sop_instance for arrival in inbox.arrivals] == study.instances
    assert len({arrival.association for arrival in inbox.arrivals}) == 1


def test_failures_are_counted_and_listed(site, study, new_peer):
    bad = set(study.instances[1:3])
    title, port = new_peer()
    inbox = Inbox(lambda arrival: 0xA700 if arrival.sop_instance in bad else 0)
    with receiver(port, [(CT, [EXPLICIT])], inbox, title=title):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xB000, (4, 2, 0))
    assert set(failed_uids(last)) == bad


def test_warnings_are_counted_and_not_listed(site, study, new_peer):
    title, port = new_peer()
    inbox = Inbox(lambda arrival: 0xB000 if arrival.sop_instance == study.instances[0] else 0)
    with receiver(port, [(CT, [EXPLICIT])], inbox, title=title):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xB000, (5, 0, 1))
    assert failed_uids(last) == []


def test_nothing_accepted_by_the_destination_is_a_failure(site, study, new_peer):
    title, port = new_peer()
    with receiver(port, [(CT, [EXPLICIT])], Inbox(lambda arrival: 0xC123), title=title):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    assert set(failed_uids(last)) == set(study.instances)


@pytest.mark.parametrize("syntaxes", [[IMPLICIT], [BIG], [IMPLICIT, EXPLICIT]], ids=["implicit", "big", "both"])
def test_a_destination_gets_what_it_takes(site, study, new_peer, syntaxes):
    title, port = new_peer()
    inbox = Inbox()
    with receiver(port, [(CT, syntaxes)], inbox, title=title):
        responses, _ = move(site, whole(study), title)
    expected = EXPLICIT if EXPLICIT in syntaxes else syntaxes[0]
    if syntaxes == [BIG]:
        # Big endian is retired and offered only for objects that are stored in it.
        assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    else:
        assert (responses[-1].Status, counts(responses[-1])) == (0, (6, 0, 0))
        assert {arrival.syntax for arrival in inbox.arrivals} == {expected}


def test_a_class_that_the_destination_rejects_fails_alone(site, patient_id, new_peer):
    study = make_study(patient_id, 4)
    items = wire_objects(study)
    items[2:] = [replace(item, sop_class=MR) for item in items[2:]]
    store(site, items)
    title, port = new_peer()
    inbox = Inbox()
    with receiver(port, [(CT, [EXPLICIT])], inbox, title=title):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xB000, (2, 2, 0))
    assert set(failed_uids(last)) == set(study.instances[2:])


def test_a_destination_that_takes_no_class_at_all_fails_everything(site, study, new_peer):
    title, port = new_peer()
    with receiver(port, [(MR, [EXPLICIT])], Inbox(), title=title):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    assert set(failed_uids(last)) == set(study.instances)


def test_a_destination_that_rejects_the_association_fails_everything(site, study, new_peer):
    title, port = new_peer()
    ae = AE(ae_title="OTHER")
    ae.require_called_aet = True
    ae.add_supported_context(CT, [EXPLICIT])
    server = ae.start_server(("127.0.0.1", port), block=False)
    try:
        responses, last = move(site, whole(study), title)
    finally:
        server.shutdown()
    assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    assert "reject" in responses[-1].ErrorComment.lower()
    assert set(failed_uids(last)) == set(study.instances)


def test_a_destination_that_aborts_once_gets_the_rest_on_a_new_association(site, study, new_peer):
    title, port = new_peer()
    inbox = Inbox()
    aborted = []

    def abort_third(event):
        if len(inbox.arrivals) == 2 and not aborted:
            aborted.append(str(event.request.AffectedSOPInstanceUID))
            event.assoc.abort()
            return 0xA700
        return inbox.take(event)

    with receiver(port, [(CT, [EXPLICIT])], Inbox(), title=title, handlers=[(evt.EVT_C_STORE, abort_third)]):
        responses, last = move(site, whole(study), title)
    completed, failed, _ = counts(responses[-1])
    assert completed + failed == 6
    assert failed == 1
    assert failed_uids(last) == aborted
    assert len({arrival.association for arrival in inbox.arrivals}) == 2


def test_a_destination_that_always_aborts_is_given_up(site, study, new_peer):
    title, port = new_peer()
    handlers = [(evt.EVT_C_STORE, lambda event: event.assoc.abort() or 0xA700)]
    with receiver(port, [(CT, [EXPLICIT])], Inbox(), title=title, handlers=handlers):
        responses, last = move(site, whole(study), title)
    assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    assert set(failed_uids(last)) == set(study.instances)


def test_a_slow_destination_harms_nobody_else(site, study, new_peer):
    slow, slow_port = new_peer()
    fast, fast_port = new_peer()

    def dawdle(arrival):
        time.sleep(0.5)
        return 0

    with receiver(slow_port, [(CT, [EXPLICIT])], Inbox(dawdle), title=slow):
        outcome = []
        waiting = threading.Thread(target=lambda: outcome.append(move(site, whole(study), slow)))
        waiting.start()
        with receiver(fast_port, [(CT, [EXPLICIT])], Inbox(), title=fast):
            started = time.monotonic()
            responses, _ = move(site, whole(study), fast)
            took_s = time.monotonic() - started
        waiting.join(30)
    assert counts(responses[-1]) == (6, 0, 0)
    assert took_s < 2
    assert counts(outcome[0][0][-1]) == (6, 0, 0)
    # While it waits the requester hears how far it is.
    assert len(outcome[0][0]) >= 4


def test_a_throttled_destination_is_sent_to_at_its_rate(site, patient_id, new_peer):
    study = make_study(patient_id, 4, side=100)
    store(site, wire_objects(study))
    title, port = new_peer(bytes_per_s=20_000)
    with receiver(port, [(CT, [EXPLICIT])], Inbox(), title=title):
        started = time.monotonic()
        responses, _ = move(site, whole(study), title)
    assert counts(responses[-1]) == (4, 0, 0)
    # 4 objects of 20 kB, of which the first second's worth goes at once.
    assert 2.0 < time.monotonic() - started < 10


def test_more_contexts_than_one_association_holds_make_another_one(site, patient_id, new_peer):
    study = make_study(patient_id, 150, side=4)
    items = [
        replace(item, sop_class=f"1.3.6.1.4.1.99999.1.{number}") for number, item in enumerate(wire_objects(study))
    ]
    assert store(site, items) == [0] * 150
    title, port = new_peer()
    inbox = Inbox()
    with receiver(port, [(item.sop_class, [EXPLICIT]) for item in items], inbox, title=title, any_class=True):
        responses, _ = move(site, whole(study), title)
    assert counts(responses[-1]) == (150, 0, 0)
    assert {uid: arrival.data for uid, arrival in inbox.by_uid.items()} == {
        item.sop_instance: item.data for item in items
    }
    assert len({arrival.association for arrival in inbox.arrivals}) >= 2


def test_a_cancelled_move_stops_and_tells_what_was_done(site, study, new_peer):
    title, port = new_peer()

    def dawdle(arrival):
        time.sleep(0.3)
        return 0

    inbox = Inbox(dawdle)
    with receiver(port, [(CT, [EXPLICIT])], inbox, title=title), associate(site, [(MOVE, [EXPLICIT])]) as association:
        stream = association.send_c_move(whole(study), title, MOVE, msg_id=4)
        next(stream)
        association.send_c_cancel(4, query_model=MOVE)
        responses, last = responses_of(stream)
    completed, failed, warned = counts(responses[-1])
    assert responses[-1].Status == 0xFE00
    assert completed == len(inbox.arrivals) < 6
    assert (failed, warned, failed_uids(last)) == (0, 0, [])
    assert responses[-1].NumberOfRemainingSuboperations == 6 - completed


def test_a_cancelled_get_stops_and_tells_what_was_done(site, study):
    def dawdle(arrival):
        time.sleep(0.2)
        return 0

    inbox = Inbox(dawdle)
    contexts = [(GET, [EXPLICIT]), (CT, [EXPLICIT])]
    with associate(site, contexts, roles=[CT], handlers=inbox.handlers) as association:
        stream = association.send_c_get(whole(study), GET, msg_id=4)
        next(stream)
        association.send_c_cancel(4, query_model=GET)
        responses, _ = responses_of(stream)
    assert responses[-1].Status == 0xFE00
    completed, failed, warned = counts(responses[-1])
    assert completed == len(inbox.arrivals) < 6
    assert (failed, warned) == (0, 0)


def test_a_get_whose_stores_fail_lists_them(site, study):
    inbox = Inbox(lambda arrival: 0xA700 if arrival.sop_instance in study.instances[:2] else 0xB007)
    responses, last = get(site, whole(study), [(CT, EXPLICIT)], inbox)
    assert (responses[-1].Status, counts(responses[-1])) == (0xB000, (0, 2, 4))
    assert set(failed_uids(last)) == set(study.instances[:2])


def test_a_get_without_a_context_for_the_class_fails_it(site, study):
    responses, last = get(site, whole(study), [(MR, EXPLICIT)], Inbox())
    assert (responses[-1].Status, counts(responses[-1])) == (0xA702, (0, 6, 0))
    assert set(failed_uids(last)) == set(study.instances)


def test_a_get_without_the_scp_role_fails_it(site, study):
    with associate(site, [(GET, [EXPLICIT]), (CT, [EXPLICIT])]) as association:
        responses, last = responses_of(association.send_c_get(whole(study), GET))
    assert counts(responses[-1]) == (0, 6, 0)
    assert set(failed_uids(last)) == set(study.instances)


def test_a_requester_that_vanishes_in_the_middle_of_a_get_harms_nobody(site, study):
    contexts = [(GET, [EXPLICIT]), (CT, [EXPLICIT])]
    handlers = [(evt.EVT_C_STORE, lambda event: event.assoc.dul.socket.socket.close() or 0)]
    with associate(site, contexts, roles=[CT], handlers=handlers, timeout_s=3) as association:
        list(association.send_c_get(whole(study), GET))
    inbox = Inbox()
    responses, _ = get(site, whole(study), [(CT, EXPLICIT)], inbox)
    assert counts(responses[-1]) == (6, 0, 0)


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
def test_lists_of_uids_are_retrieved(site, patient_id, level):
    study = make_study(patient_id, 6, n_series=3)
    store(site, wire_objects(study))
    asked = identifier(level, StudyInstanceUID=study.uid, SeriesInstanceUID=study.series[:2])
    expected = [uid for number, uid in enumerate(study.instances) if number % 3 != 2]
    if level == "IMAGE":
        asked.SeriesInstanceUID = study.series[0]
        asked.SOPInstanceUID = expected = study.instances[::3]
    inbox = Inbox()
    responses, _ = get(site, asked, [(CT, EXPLICIT)], inbox)
    assert counts(responses[-1]) == (len(expected), 0, 0)
    assert set(inbox.by_uid) == set(expected)


def test_nothing_that_matches_is_a_success_of_nothing(site):
    responses, last = get(site, identifier("STUDY", StudyInstanceUID="1.2.3.4"), [(CT, EXPLICIT)], Inbox())
    assert (responses[-1].Status, counts(responses[-1]), last) == (0, (0, 0, 0), None)


def test_a_retrieve_without_its_unique_key_is_refused(site, new_peer):
    title, _ = new_peer()
    responses, _ = move(site, identifier("SERIES", SeriesInstanceUID="1.2.3"), title)
    assert [response.Status for response in responses] == [0xA900]
    assert responses[0].ErrorComment


def test_two_moves_at_once_on_one_association_are_both_answered(site, study, new_peer):
    """Without a negotiated window a peer should wait; one that doesn't is served all the same."""
    title, port = new_peer()
    inbox = Inbox()
    from pynetdicom.dsutils import encode

    body = encode(whole(study), True, True)
    requests = b"".join(
        frames.message(1, frames.command({0x0002: MOVE, 0x0100: 0x0021, 0x0110: number, 0x0600: title, 0x0700: 0,
                                          0x0800: 1}), body)
        for number in (1, 2)
    )  # fmt: skip
    final = {}
    with (
        receiver(port, [(CT, [EXPLICIT])], inbox, title=title),
        associate(site, [(MOVE, [IMPLICIT])]) as association,
        driving(association),
    ):
        association.dul.socket.socket.sendall(requests)
        while len(final) < 2:
            _, response = association.dimse.get_msg(block=True)
            assert response is not None
            if response.Status != 0xFF00:
                final[response.MessageIDBeingRespondedTo] = response.Status
    assert final == {1: 0, 2: 0}
    assert len(inbox.arrivals) == 12
