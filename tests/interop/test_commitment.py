"""Storage commitment with pynetdicom as the modality: on the same association, on a new one, and when it was away."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from tests.interop import frames
from tests.interop.objects import EXPLICIT, IMPLICIT, MR, make_study, wire_objects
from tests.interop.peers import associate, driving, store
from tests.live import wait_until

COMMITTED, FAILURES_EXIST = 1, 2
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119


@dataclass
class Reports:
    """N-EVENT-REPORTs as they come: event type and information."""

    status: int = 0
    came: list[tuple[int, Dataset]] = field(default_factory=list)
    _any: threading.Event = field(default_factory=threading.Event)

    def take(self, event):
        self.came.append((event.event_type, event.event_information))
        self._any.set()
        return self.status, None

    def wait(self, limit_s: float = 20.0) -> tuple[int, Dataset]:
        assert self._any.wait(limit_s), "no report came"
        return self.came[0]

    @property
    def handlers(self):
        return [(evt.EVT_N_EVENT_REPORT, self.take)]


@pytest.fixture
def study(site, patient_id):
    made = make_study(patient_id, 3)
    store(site, wire_objects(made))
    return made


def asked_for(references) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = generate_uid()
    dataset.ReferencedSOPSequence = Sequence()
    for sop_class, sop_instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        dataset.ReferencedSOPSequence.append(item)
    return dataset


def references_of(study):
    return [(str(image.SOPClassUID), str(image.SOPInstanceUID)) for image in study.images]


def told(sequence) -> set[tuple[str, str]]:
    return {(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in sequence}


def commitment_server(port, reports, title):
    ae = AE(ae_title=title)
    ae.add_supported_context(StorageCommitmentPushModel, [EXPLICIT, IMPLICIT], scu_role=True, scp_role=True)
    return ae.start_server(("127.0.0.1", port), block=False, evt_handlers=reports.handlers)


def ask(association, dataset) -> int:
    status, _ = association.send_n_action(dataset, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    return status.Status


def test_what_is_stored_is_committed_on_the_same_association(site, study):
    reports, asked = Reports(), asked_for(references_of(study))
    with associate(site, [(StorageCommitmentPushModel, [EXPLICIT])], handlers=reports.handlers) as association:
        assert ask(association, asked) == 0
        kind, information = reports.wait()
    assert kind == COMMITTED
    assert information.TransactionUID == asked.TransactionUID
    assert told(information.ReferencedSOPSequence) == set(references_of(study))
    assert "FailedSOPSequence" not in information


def test_what_is_not_stored_fails_with_its_reason(site, study):
    good = references_of(study)
    missing, conflicting = (good[0][0], generate_uid()), (MR, good[2][1])
    reports = Reports()
    with associate(site, [(StorageCommitmentPushModel, [EXPLICIT])], handlers=reports.handlers) as association:
        assert ask(association, asked_for([*good[:2], missing, conflicting])) == 0
        kind, information = reports.wait()
    assert kind == FAILURES_EXIST
    assert told(information.ReferencedSOPSequence) == set(good[:2])
    reasons = {item.ReferencedSOPInstanceUID: item.FailureReason for item in information.FailedSOPSequence}
    assert reasons == {missing[1]: NO_SUCH_INSTANCE, conflicting[1]: CLASS_CONFLICT}


def ask_and_leave(site, asked, calling) -> None:
    """N-ACTION and A-RELEASE in one segment: nobody is there any more when the report is ready."""
    request = frames.command({
        0x0003: StorageCommitmentPushModel, 0x0100: 0x0130, 0x0110: 1, 0x0800: 1,
        0x1001: StorageCommitmentPushModelInstance, 0x1008: 1,
    })  # fmt: skip
    body = encode(asked, True, True)
    with associate(site, [(StorageCommitmentPushModel, [IMPLICIT])], calling=calling) as association:
        association.dul.socket.socket.sendall(frames.message(1, request, body) + frames.A_RELEASE_RQ)
        association.join(10)


def test_one_who_left_is_called_back_with_reversed_roles(site, study, new_peer):
    title, port = new_peer()
    reports, asked = Reports(), asked_for(references_of(study))
    server = commitment_server(port, reports, title)
    try:
        ask_and_leave(site, asked, title)
        kind, information = reports.wait()
    finally:
        server.shutdown()
    assert (kind, information.TransactionUID) == (COMMITTED, asked.TransactionUID)
    assert told(information.ReferencedSOPSequence) == set(references_of(study))
    assert len(reports.came) == 1


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_who_was_away_is_called_again(site, study, new_peer):
    title, port = new_peer()
    asked = asked_for(references_of(study))
    ask_and_leave(site, asked, title)
    wait_until(lambda: any(event["peer"] == title for event in site.events("commitment-report-later")))
    reports = Reports()
    server = commitment_server(port, reports, title)
    try:
        kind, information = reports.wait(120)
    finally:
        server.shutdown()
    assert (kind, information.TransactionUID) == (COMMITTED, asked.TransactionUID)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({0x1008: 2}, 0x0123),
        ({0x1001: "1.2.3"}, 0x0112),
    ],
    ids=["unknown action", "another instance"],
)
def test_what_is_no_request_for_commitment_is_refused(site, study, change, status):
    elements = {
        0x0003: StorageCommitmentPushModel, 0x0100: 0x0130, 0x0110: 1, 0x0800: 1,
        0x1001: StorageCommitmentPushModelInstance, 0x1008: 1,
    } | change  # fmt: skip
    body = encode(asked_for(references_of(study)), True, True)
    with associate(site, [(StorageCommitmentPushModel, [IMPLICIT])]) as association, driving(association):
        association.dul.socket.socket.sendall(frames.message(1, frames.command(elements), body))
        _, response = association.dimse.get_msg(block=True)
    assert response.Status == status


def test_a_request_without_references_is_refused(site):
    empty = Dataset()
    empty.TransactionUID = generate_uid()
    with associate(site, [(StorageCommitmentPushModel, [EXPLICIT])]) as association:
        assert ask(association, empty) in {0x0115, 0x0110, 0x0120, 0x0114}
