"""What storage commitment promises: yes only to what was read back whole, and a reason for every no."""

from __future__ import annotations

import pytest

from pacsd.model.dataset import Dataset, Element
from pacsd.model.errors import OutOfResources
from pacsd.model.objects import Job
from pacsd.workflow.commitment import (
    DELIVERY_LIMIT_S,
    FAILED_SOP_SEQUENCE,
    HEAD_START_S,
    KIND,
    LONGEST_DELAY_S,
    MAX_ATTEMPTS,
    REFERENCED_SOP_SEQUENCE,
    CommitmentRequest,
    Evaluation,
    Failure,
    InvalidRequest,
    Reason,
    Reference,
    Transactions,
    evaluate,
    persist,
    report_of,
    request_of,
    request_of_job,
    retry_delay_s,
)
from tests.dicom.fakes import CT, MR, MemoryIndex, MemoryJobs, MemoryStorage
from tests.workflow.immediate import ImmediateOffload, finish


def action(transaction: str, *pairs: tuple[str, str]) -> Dataset:
    items = tuple(
        Dataset({0x00081150: Element("UI", (pair[0],)), 0x00081155: Element("UI", (pair[1],))}) for pair in pairs
    )
    return Dataset({0x00081195: Element("UI", (transaction,)), REFERENCED_SOP_SEQUENCE: Element("SQ", items)})


def asked(*pairs: tuple[str, str], duplicate: bool = False) -> CommitmentRequest:
    return CommitmentRequest("1.9", tuple(Reference(*pair) for pair in pairs), "CT1", "PACSD", 1000.0, duplicate)


class Site:
    def __init__(self) -> None:
        self.storage, self.index, self.offload = MemoryStorage(), MemoryIndex(), ImmediateOffload()

    def evaluate(self, request: CommitmentRequest, n_copies: int = 1) -> Evaluation:
        return finish(evaluate(request, self.index, self.storage, self.offload, n_copies=n_copies))


def test_what_is_held_and_whole_is_committed() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    request = asked((CT, "1.1"))
    assert site.evaluate(request) == Evaluation(request.references, ())
    assert site.storage.n_open == 0


def test_an_instance_that_is_not_held_fails_as_no_such_instance() -> None:
    site = Site()
    request = asked((CT, "1.1"))
    assert site.evaluate(request).failed == (Failure(request.references[0], Reason.NO_SUCH_INSTANCE),)


def test_an_instance_of_another_class_fails_as_conflict() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    assert site.evaluate(asked((MR, "1.1"))).failed[0].reason is Reason.CLASS_INSTANCE_CONFLICT


@pytest.mark.parametrize("damage", ["missing", "altered", "shortened"])
def test_a_file_that_is_not_what_was_stored_is_never_committed(damage: str) -> None:
    site = Site()
    digest = site.index.add(site.storage, "1.1").files[0].digest
    data, syntax, offset = site.storage.files[digest]
    if damage == "missing":
        del site.storage.files[digest]
    else:
        bad = data[:-1] if damage == "shortened" else data[:-1] + b"\xff"
        site.storage.files[digest] = (bad, syntax, offset)
    assert site.evaluate(asked((CT, "1.1"))).failed[0].reason is Reason.PROCESSING_FAILURE


def test_fewer_copies_than_the_rule_demands_fail_and_waiting_may_help() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    evaluation = site.evaluate(asked((CT, "1.1")), n_copies=2)
    assert evaluation.failed[0].reason is Reason.RESOURCE_LIMITATION
    assert evaluation.lacks_copies
    assert not site.evaluate(asked((CT, "1.1"))).lacks_copies


def test_every_reference_of_a_duplicate_transaction_fails() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    evaluation = site.evaluate(asked((CT, "1.1"), duplicate=True))
    assert [failure.reason for failure in evaluation.failed] == [Reason.DUPLICATE_TRANSACTION]


def test_an_index_that_cannot_serve_decides_nothing() -> None:
    site = Site()
    site.index.failure = OutOfResources("database is away")
    with pytest.raises(OutOfResources):
        site.evaluate(asked((CT, "1.1")))


def test_more_references_than_one_lookup_holds_are_all_judged() -> None:
    site = Site()
    for number in range(1200):
        site.index.add(site.storage, f"1.{number}")
    evaluation = site.evaluate(asked(*((CT, f"1.{number}") for number in range(1201))))
    assert len(evaluation.committed) == 1200
    assert [failure.reference.sop_instance_uid for failure in evaluation.failed] == ["1.1200"]


def test_a_request_is_read_with_each_reference_once() -> None:
    request = request_of(action("1.9", (CT, "1.1"), (CT, "1.2"), (CT, "1.1")), "CT1", "PACSD", 5.0)
    assert request.references == (Reference(CT, "1.1"), Reference(CT, "1.2"))
    assert (request.transaction_uid, request.ae_title, request.called_ae) == ("1.9", "CT1", "PACSD")


@pytest.mark.parametrize("broken", [action("", (CT, "1.1")), action("1.9"), action("1.9", (CT, "")), Dataset({})])
def test_an_incomplete_request_is_an_invalid_argument(broken: Dataset) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request_of(broken, "CT1", "PACSD", 5.0)
    assert refused.value.dicom_status == 0x0115


def test_a_request_outlives_the_process_in_its_job() -> None:
    now = [1000.0]
    jobs = MemoryJobs(lambda: now[0])
    request = asked((CT, "1.1"), (MR, "1.2"))
    job_id = finish(persist(request, jobs, ImmediateOffload()))
    assert jobs.claim((KIND,), "other", 60.0, 1) == []
    now[0] += HEAD_START_S
    (job,) = jobs.claim((KIND,), "other", 60.0, 1)
    assert job.job_id == job_id
    assert request_of_job(job) == request


def test_a_job_survives_as_json() -> None:
    import json

    jobs = MemoryJobs(lambda: 1e9)
    finish(persist(asked((CT, "1.1")), jobs, ImmediateOffload()))
    (job,) = jobs.claim((KIND,), "me", 60.0, 1)
    reread = Job(job.job_id, job.kind, json.loads(json.dumps(job.payload)), job.key, job.attempts)
    assert request_of_job(reread) == request_of_job(job)


def test_the_report_has_each_reference_in_its_sequence() -> None:
    good, bad = Reference(CT, "1.1"), Reference(CT, "1.2")
    request = asked((CT, "1.1"), (CT, "1.2"))
    event, report = report_of(request, Evaluation((good,), (Failure(bad, Reason.NO_SUCH_INSTANCE),)), "PACSD")
    assert event == 2
    assert report.text(0x00081195) == "1.9"
    assert [item.text(0x00081155) for item in report[REFERENCED_SOP_SEQUENCE].value] == ["1.1"]
    (failed,) = report[FAILED_SOP_SEQUENCE].value
    assert (failed.text(0x00081155), failed[0x00081197].value) == ("1.2", (0x0112,))


def test_a_report_without_failures_is_event_1_and_has_no_failed_sequence() -> None:
    event, report = report_of(asked((CT, "1.1")), Evaluation((Reference(CT, "1.1"),), ()), "PACSD")
    assert event == 1
    assert FAILED_SOP_SEQUENCE not in report


def test_delivery_is_tried_for_seven_days_ever_less_often() -> None:
    delays = [retry_delay_s(attempt) for attempt in range(1, MAX_ATTEMPTS)]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S
    assert DELIVERY_LIMIT_S <= sum(delays) <= DELIVERY_LIMIT_S + LONGEST_DELAY_S


def test_a_transaction_is_known_while_it_runs() -> None:
    transactions = Transactions(max_held=2)
    request = asked((CT, "1.1"))
    assert transactions.find(request) is None
    transactions.begin(request)
    assert transactions.find(asked((CT, "1.2"))) is request
    transactions.end(request)
    assert transactions.find(request) is None
