"""What storage commitment promises on the wire: a promise kept before it is given, a report that arrives."""

from __future__ import annotations

import pytest

from pacsd.dicom.association import Association
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scp.commitment import Commitment, CommitmentReporter
from pacsd.dicom.scu.commitment import PROPOSAL, CommitmentRefused, Report, ReportReceiver, request_commitment
from pacsd.dicom.scu.connect import Target, connect
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.wire import dimse
from pacsd.model.errors import OutOfResources, PacsError
from pacsd.model.objects import Peer
from pacsd.workflow.commitment import HEAD_START_S, Reference
from tests.dicom.fakes import CT, MemoryIndex, MemoryJobs, MemoryPeers, MemoryStorage, Net

A, B = Reference(CT, "1.1"), Reference(CT, "1.2")


class Site:
    """An archive on port 104 and a modality CT1 that listens on port 11113."""

    def __init__(self, *, n_copies: int = 1) -> None:
        self.net, self.index, self.storage = Net(), MemoryIndex(), MemoryStorage()
        self.jobs = MemoryJobs(self.net.clock.seconds)
        self.peers = MemoryPeers(Peer("CT1", "ct", 11113))
        self.reporter = CommitmentReporter(
            self.index, self.storage, self.jobs, self.peers, self.net.offload,
            Destinations(self.net.network(), "PACSD"), ae_title="PACSD", clock=self.net.clock.seconds, owner="me",
            n_copies=n_copies,
        )  # fmt: skip
        handler = Commitment(self.jobs, self.net.offload, self.reporter, self.net.clock.seconds)
        self.pacs = self.net.listen(104, Services({dimse.N_ACTION_RQ: handler}))
        self.reports: list[tuple[str, Report]] = []
        self.refuse_reports = False
        self.modality_services = Services({dimse.N_EVENT_REPORT_RQ: ReportReceiver(self._received)})
        self.modality = self.net.listen(11113, self.modality_services)

    def _received(self, peer: str, report: Report) -> None:
        if self.refuse_reports:
            raise PacsError("not now")
        self.reports.append((peer, report))

    def connect(self) -> Association:
        return self.net.run(
            connect(
                self.net.network(), Target("pacs", 104, "PACSD"), "CT1", [PROPOSAL], services=self.modality_services
            )
        )

    def ask(self, *references: Reference, transaction: str = "1.9") -> Association:
        association = self.connect()
        self.net.run(request_commitment(association, transaction, references))
        return association

    def turn(self, seconds: float) -> None:
        for _ in range(int(seconds / 5) + 1):
            self.net.clock.advance(5.0)
            self.net.wire.pump()


def test_the_report_comes_on_the_same_association_while_it_is_open() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    site.ask(A, B)
    site.net.wire.pump()
    ((peer, report),) = site.reports
    assert (peer, report.transaction_uid) == ("PACSD", "1.9")
    assert report.committed == (A,)
    assert report.failed == ((B, 0x0112),)
    assert site.modality.associations == []
    assert site.jobs.waiting == {}


def test_the_report_comes_on_a_new_association_with_roles_reversed_when_the_first_is_gone() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    association = site.connect()

    async def ask_and_leave() -> None:
        await request_commitment(association, "1.9", [A])
        association.abort()

    site.net.run(ask_and_leave())
    site.net.wire.pump()
    ((peer, report),) = site.reports
    assert (peer, report.committed) == ("PACSD", (A,))
    (reverse,) = site.modality.associations
    assert [context.scu for context in reverse.contexts.values()] == [True]
    assert not reverse.is_open
    assert site.jobs.waiting == {}


def test_a_request_is_in_the_database_before_it_is_answered() -> None:
    site = Site()
    site.jobs.failure = OutOfResources("database is away")
    with pytest.raises(CommitmentRefused, match="0213"):
        site.ask(A)
    assert site.reports == []


def test_a_requester_that_is_away_gets_its_report_when_it_is_back_days_later() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    del site.net.hosts[11113]
    site.refuse_reports = True
    association = site.ask(A)
    site.net.wire.pump()
    association.abort()
    site.net.run(site.reporter.start())
    site.turn(2 * 24 * 3600.0)
    assert site.reports == []
    assert len(site.jobs.waiting) == 1
    assert len(site.jobs.errors) > 10
    site.refuse_reports = False
    site.net.hosts[11113] = site.modality
    site.turn(3700.0)
    ((_, report),) = site.reports
    assert report.committed == (A,)
    assert site.jobs.waiting == {}
    site.net.run(site.reporter.stop(1.0))


def test_another_process_reports_what_the_first_left_behind() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    site.reporter.begin = lambda *_: None  # type: ignore[method-assign]
    site.ask(A).abort()
    site.net.run(site.reporter.start())
    site.turn(HEAD_START_S / 2)
    assert site.reports == []
    site.turn(HEAD_START_S)
    assert len(site.reports) == 1
    assert site.jobs.waiting == {}


def test_a_requester_that_is_not_registered_waits_for_its_registration() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    registered = site.peers.by_title.pop("CT1")
    association = site.connect()

    async def ask_and_leave() -> None:
        await request_commitment(association, "1.9", [A])
        association.abort()

    site.net.run(ask_and_leave())
    site.net.run(site.reporter.start())
    site.turn(300.0)
    assert site.reports == []
    site.peers.by_title["CT1"] = registered
    site.turn(1000.0)
    assert len(site.reports) == 1


def test_missing_copies_are_waited_for_and_then_reported_as_failed() -> None:
    site = Site(n_copies=2)
    site.index.add(site.storage, "1.1")
    site.ask(A)
    site.net.run(site.reporter.start())
    site.turn(1800.0)
    assert site.reports == []
    site.turn(2 * 3600.0)
    ((_, report),) = site.reports
    assert report.failed == ((A, 0x0213),)


def test_the_same_request_again_while_it_runs_is_taken_once() -> None:
    site = Site()
    site.reporter.begin = lambda *_: None  # type: ignore[method-assign]
    site.ask(A)
    site.ask(A)
    assert len(site.jobs.waiting) == 1


def test_a_transaction_in_use_for_other_references_fails_as_duplicate() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    begin = site.reporter.begin
    site.reporter.begin = lambda *_: None  # type: ignore[method-assign]
    site.ask(A)
    site.reporter.begin = begin  # type: ignore[method-assign]
    site.ask(B)
    site.net.wire.pump()
    ((_, report),) = site.reports
    assert report.failed == ((B, 0x0131),)


def test_a_transaction_may_be_used_again_after_its_report() -> None:
    site = Site()
    site.index.add(site.storage, "1.1")
    for _ in range(2):
        site.ask(A)
        site.net.wire.pump()
    assert [report.committed for _, report in site.reports] == [(A,), (A,)]


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [("RequestedSOPInstanceUID", "1.2.3", 0x0112), ("ActionTypeID", 2, 0x0123)],
)
def test_what_is_not_a_commitment_request_is_refused(field: str, value: object, status: int) -> None:
    site = Site()
    association = site.connect()
    (context,) = association.contexts.values()
    command = dimse.Command(
        RequestedSOPClassUID=context.abstract_syntax, CommandField=dimse.N_ACTION_RQ, MessageID=1,
        CommandDataSetType=dimse.NO_DATASET, RequestedSOPInstanceUID="1.2.840.10008.1.20.1.1", ActionTypeID=1,
    )  # fmt: skip
    setattr(command, field, value)
    response, _ = site.net.run(association.request(context.id, command))
    assert response.Status == status
    assert site.jobs.waiting == {}
