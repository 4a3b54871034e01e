"""pynetdicom as a modality: many contexts, odd fragments, any PDU length, several operations at once."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from pydicom.uid import generate_uid
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation

from tests.interop import frames
from tests.interop.objects import CT, EXPLICIT, IMPLICIT, make_study, wire_objects
from tests.interop.peers import (
    FIND,
    Inbox,
    associate,
    driving,
    find,
    get,
    identifier,
    send_raw,
    store,
)


def stored(site, study) -> int:
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None))
    return answers[0].NumberOfStudyRelatedInstances if answers else 0


def given_back(site, items) -> dict[str, bytes]:
    """What C-GET gives back of objects of one class and syntax."""
    inbox = Inbox()
    uids = [item.sop_instance for item in items]
    pairs = [(items[0].sop_class, items[0].syntax)]
    get(site, identifier("IMAGE", SOPInstanceUID=uids), pairs, inbox, relational=True)
    return {uid: arrival.data for uid, arrival in inbox.by_uid.items()}


def sendall(association, data: bytes) -> None:
    association.dul.socket.socket.sendall(data)


def answers_of(association, count: int) -> list[tuple[int, int]]:
    """The next C-STORE responses: message id and status."""
    found = []
    for _ in range(count):
        _, response = association.dimse.get_msg(block=True)
        assert isinstance(response, C_STORE)
        found.append((response.MessageIDBeingRespondedTo, response.Status))
    return found


def test_128_contexts_are_accepted_and_any_of_them_carries_objects(site, patient_id):
    classes = [context.abstract_syntax for context in AllStoragePresentationContexts[:128]]
    study = make_study(patient_id, 3)
    items = wire_objects(study)
    chosen = (classes[0], classes[63], classes[127])
    items = [replace(item, sop_class=uid) for item, uid in zip(items, chosen, strict=True)]
    with associate(site, [(uid, [EXPLICIT]) for uid in classes]) as association:
        assert len(association.accepted_contexts) == 128
        with driving(association):
            assert [send_raw(association, item) for item in items] == [0, 0, 0]
    assert stored(site, study) == 3


def test_unknown_and_private_classes_and_syntaxes_are_stored(site, patient_id):
    study = make_study(patient_id, 2)
    private, unknown = wire_objects(study)
    items = [replace(private, sop_class="1.3.12.2.1107.5.9.1"), replace(unknown, syntax="1.2.840.113619.5.2.77")]
    assert store(site, items) == [0, 0]
    for item in items:
        assert given_back(site, [item]) == {item.sop_instance: item.data}


@pytest.mark.parametrize("max_pdu", [0, 4096, 16382, 1 << 20, 0xFFFFFFFF])
def test_any_pdu_length_of_the_peer_is_heeded(site, patient_id, max_pdu):
    study = make_study(patient_id, 2, side=300)
    items = wire_objects(study)
    assert store(site, items, max_pdu=max_pdu) == [0, 0]
    sizes = []

    def note(event):
        sizes.append(event.pdu.pdu_length if event.pdu.pdu_type == 4 else 0)

    inbox = Inbox()
    contexts = [("1.2.840.10008.5.1.4.1.2.2.3", [EXPLICIT]), (CT, [EXPLICIT])]
    handlers = [*inbox.handlers, (evt.EVT_PDU_RECV, note)]
    with associate(site, contexts, roles=[CT], max_pdu=max_pdu, handlers=handlers) as association:
        for response, _ in association.send_c_get(identifier("STUDY", StudyInstanceUID=study.uid), contexts[0][0]):
            assert response.Status in {0, 0xFF00}
    assert {uid: arrival.data for uid, arrival in inbox.by_uid.items()} == {
        item.sop_instance: item.data for item in items
    }
    if max_pdu:
        assert max(sizes) <= max_pdu


FRAGMENTS = {
    "one-byte": (1,),
    "odd": (1, 3, 777, 5),
    "empty-between": (100, 0, 4000, 0),
    "large": (150_000,),
}


@pytest.mark.parametrize("kind", FRAGMENTS)
def test_fragments_of_any_size_make_the_same_object(site, patient_id, kind):
    (item,) = wire_objects(make_study(patient_id, 1))
    data = frames.message(1, frames.store_request(item), item.data, FRAGMENTS[kind])
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, data)
        assert answers_of(association, 1) == [(1, 0)]
    assert given_back(site, [item]) == {item.sop_instance: item.data}


def test_several_values_in_one_pdu_make_the_same_object(site, patient_id):
    (item,) = wire_objects(make_study(patient_id, 1))
    request, half = frames.store_request(item), len(item.data) // 2
    data = frames.pdu(
        (1, frames.COMMAND, request[:10]),
        (1, frames.COMMAND | frames.LAST, request[10:]),
        (1, 0, item.data[:half]),
        (1, frames.LAST, item.data[half:]),
    )
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, data)
        assert answers_of(association, 1) == [(1, 0)]
    assert given_back(site, [item]) == {item.sop_instance: item.data}


def test_segments_of_a_few_bytes_make_the_same_object(site, patient_id):
    (item,) = wire_objects(make_study(patient_id, 1, side=8))
    data = frames.message(1, frames.store_request(item), item.data, (200,))
    chance = random.Random(7)
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        at = 0
        while at < len(data):
            size = chance.choice((1, 2, 5, 11, 40))
            sendall(association, data[at : at + size])
            at += size
            time.sleep(0.0005)
        assert answers_of(association, 1) == [(1, 0)]
    assert given_back(site, [item]) == {item.sop_instance: item.data}


def test_operations_that_overlap_are_each_answered(site, patient_id):
    study = make_study(patient_id, 8)
    items = wire_objects(study)
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 8, 1
    data = b"".join(
        frames.message(1, frames.store_request(item, number), item.data) for number, item in enumerate(items, 1)
    )
    with associate(site, [(CT, [EXPLICIT])], ext_neg=[window]) as association:
        agreed = association.acceptor.asynchronous_operations
        assert (agreed[0], agreed[1]) == (8, 1)
        with driving(association):
            sendall(association, data)
            answers = answers_of(association, len(items))
    assert sorted(answers) == [(number, 0) for number in range(1, 9)]
    assert stored(site, study) == 8


def test_a_release_right_behind_the_last_object_loses_nothing(site, patient_id):
    study = make_study(patient_id, 5)
    items = wire_objects(study)
    data = b"".join(
        frames.message(1, frames.store_request(item, number), item.data) for number, item in enumerate(items, 1)
    )
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, data)
        assert [status for _, status in answers_of(association, 5)] == [0] * 5
    assert stored(site, study) == 5


def test_half_an_object_before_an_abort_leaves_nothing(site, patient_id):
    study = make_study(patient_id, 1, side=400)
    (item,) = wire_objects(study)
    data = frames.message(1, frames.store_request(item), item.data)
    before = list((site.pool / "objects").rglob("*.dcm"))
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, data[: len(data) // 2])
        association.dul.socket.socket.close()
    assert stored(site, study) == 0
    assert list((site.pool / "objects").rglob("*.dcm")) == before
    assert store(site, [item]) == [0]
    assert stored(site, study) == 1


PADDINGS = {"spaces": b"  ", "nul": b"\0\0", "space-nul": b" \0"}


@pytest.mark.parametrize("padding", PADDINGS)
def test_padded_uids_in_a_request_name_the_same_object(site, patient_id, padding):
    study = make_study(patient_id, 1)
    (item,) = wire_objects(study)
    request = frames.command({
        0x0002: item.sop_class.encode() + PADDINGS[padding], 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 1,
        0x1000: item.sop_instance.encode() + PADDINGS[padding],
    })  # fmt: skip
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, frames.message(1, request, item.data))
        assert answers_of(association, 1) == [(1, 0)]
    assert store(site, [item]) == [0]
    assert stored(site, study) == 1
    assert given_back(site, [item]) == {item.sop_instance: item.data}


def test_group_lengths_and_an_unknown_element_in_a_request_do_no_harm(site, patient_id):
    study = make_study(patient_id, 1)
    (item,) = wire_objects(study)
    request = frames.command({
        0x0001: b"\0\0\0\0", 0x0002: item.sop_class, 0x0010: "ACR-NEMA", 0x0100: 1, 0x0110: 1, 0x0700: 0,
        0x0800: 0x0102, 0x1000: item.sop_instance, 0x5110: "X",
    })  # fmt: skip
    with associate(site, [(CT, [EXPLICIT])]) as association, driving(association):
        sendall(association, frames.message(1, request, item.data))
        assert answers_of(association, 1) == [(1, 0)]
    assert stored(site, study) == 1


def test_a_query_that_is_cancelled_ends_as_cancelled(site, patient_id):
    study = make_study(patient_id, 150)
    store(site, wire_objects(study))
    asked = identifier("IMAGE", StudyInstanceUID=study.uid, SeriesInstanceUID=study.series[0], SOPInstanceUID="")
    body = asked_bytes(asked)
    request = frames.command({0x0002: FIND, 0x0100: 0x0020, 0x0110: 9, 0x0700: 0, 0x0800: 1})
    # The cancel comes with the request: before its first answer can be found.
    data = frames.message(1, request, body) + frames.message(1, frames.cancel_request(9), None)
    with associate(site, [(FIND, [IMPLICIT])]) as association, driving(association):
        sendall(association, data)
        statuses = []
        while not statuses or statuses[-1] in {0xFF00, 0xFF01}:
            _, response = association.dimse.get_msg(block=True)
            statuses.append(response.Status)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 150


def test_a_cancel_of_nothing_is_ignored(site):
    with associate(site, [(FIND, [EXPLICIT])]) as association, driving(association):
        sendall(association, frames.message(1, frames.cancel_request(5), None))
    _, status = find(site, identifier("STUDY", StudyInstanceUID=generate_uid()))
    assert status == 0


def asked_bytes(asked) -> bytes:
    from pynetdicom.dsutils import encode

    return encode(asked, True, True)
