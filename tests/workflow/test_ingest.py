"""What ingest promises: nothing is acknowledged before it is sealed and indexed, and nothing half done stays."""

from __future__ import annotations

import hashlib

import pytest

from pacsd.model.errors import Busy, CommitUndecided, DuplicateInstance, OutOfResources
from pacsd.model.objects import ConflictRule, Outcome, StoredFile
from pacsd.workflow.ingest import Ingest, Limits
from pacsd.workflow.intake import Intake, Origin, Receipt
from tests.workflow.ingest_fakes import MemoryIndex, MemoryStorage, StepOffload

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class Site:
    def __init__(self, rule: ConflictRule = ConflictRule.KEEP_BOTH, **limits: int) -> None:
        self.offload, self.storage, self.index = StepOffload(), MemoryStorage(), MemoryIndex()
        self.answers: list[object] = []
        self.ingest = Ingest(
            self.storage, self.index, self.offload, self.offload.watch, lambda: 1000.0, rule=rule,
            limits=Limits(**limits),
        )  # type: ignore[arg-type]  # fmt: skip

    def begin(self, uid: str, meta: bytes = b"meta") -> Intake:
        return self.ingest.begin(CT, uid, EXPLICIT, meta, Origin("CT1", "127.0.0.1", "PACSD"))

    def store(self, uid: str, data: bytes, meta: bytes = b"meta") -> object:
        intake = self.begin(uid, meta)
        intake.add(data)
        intake.finish(self.answers.append)
        self.offload.run_all()
        return self.answers[-1]


def outcome(answer: object) -> Outcome:
    assert isinstance(answer, Receipt)
    return answer.outcome


def test_an_object_is_answered_only_after_its_commit() -> None:
    site = Site()
    intake = site.begin("1.1")
    intake.add(b"abc")
    intake.finish(site.answers.append)
    assert site.answers == []
    site.offload.run_all()
    assert outcome(site.answers[0]) is Outcome.STORED
    assert site.storage.settled == [site.index.rows["1.1"].file]


def test_objects_that_are_complete_together_share_one_seal_and_one_transaction() -> None:
    site = Site()
    for n in range(5):
        intake = site.begin(f"1.{n}")
        intake.add(b"x%d" % n)
        intake.finish(site.answers.append)
    site.offload.run_all()
    assert site.index.batches == [1, 4]
    assert [outcome(answer) for answer in site.answers] == [Outcome.STORED] * 5


def test_large_objects_are_written_while_they_arrive_and_the_sender_is_paused() -> None:
    site = Site(flush_bytes=10, high_bytes=30)
    intake = site.begin("1.1")
    assert intake.add(b"a" * 15)
    assert not intake.add(b"b" * 15)
    resumed: list[bool] = []
    intake.when_writable(lambda: resumed.append(True))
    assert resumed == []
    site.offload.run_all()
    assert resumed == [True]
    intake.add(b"c")
    intake.finish(site.answers.append)
    site.offload.run_all()
    assert site.storage.staged[0].data == b"a" * 15 + b"b" * 15 + b"c"
    assert outcome(site.answers[0]) is Outcome.STORED


def test_a_sender_paused_by_the_last_piece_of_an_object_goes_on_with_the_next_one() -> None:
    site = Site(flush_bytes=10, high_bytes=30)
    intake = site.begin("1.1")
    intake.add(b"a" * 15)
    resumed: list[bool] = []
    assert not intake.add(b"b" * 40)
    intake.when_writable(lambda: resumed.append(True))
    intake.finish(site.answers.append)
    site.offload.run_all()
    assert outcome(site.answers[0]) is Outcome.STORED
    assert resumed == [True]


def test_the_header_is_read_from_the_object_whether_it_was_flushed_or_not() -> None:
    site = Site(flush_bytes=8)
    site.store("1.1", b"short")
    site.store("1.2", b"longer than eight")
    assert site.storage.heads == [b"short", b"longer than eight"]


def test_the_same_bytes_again_are_success_and_kept_once() -> None:
    site = Site()
    site.store("1.1", b"abc")
    assert outcome(site.store("1.1", b"abc")) is Outcome.DUPLICATE
    assert len(site.storage.files) == 1


def test_the_same_data_set_from_another_station_is_a_duplicate_although_its_file_differs() -> None:
    site = Site()
    site.store("1.1", b"abc", b"meta of CT1")
    assert outcome(site.store("1.1", b"abc", b"meta of CT2")) is Outcome.DUPLICATE
    assert len(site.storage.files) == 1


def test_a_duplicate_takes_the_place_of_a_file_that_is_gone() -> None:
    site = Site()
    site.store("1.1", b"abc")
    site.storage.files.clear()
    assert outcome(site.store("1.1", b"abc")) is Outcome.DUPLICATE
    assert [number for number, _ in site.index.locations] == [1]
    assert len(site.storage.files) == 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(ConflictRule.KEEP_BOTH, Outcome.KEPT_ASIDE), (ConflictRule.REPLACE, Outcome.REPLACED)],
)
def test_other_bytes_under_a_known_uid_follow_the_sites_rule(rule: ConflictRule, expected: Outcome) -> None:
    site = Site(rule)
    site.store("1.1", b"abc")
    assert outcome(site.store("1.1", b"abd")) is expected
    assert len(site.storage.files) == 2
    assert len(site.storage.settled) == 2


def test_a_refused_conflict_leaves_no_file() -> None:
    site = Site(ConflictRule.REFUSE)
    site.store("1.1", b"abc")
    answer = site.store("1.1", b"abd")
    assert isinstance(answer, DuplicateInstance)
    assert answer.dicom_status == 0x0111
    assert len(site.storage.files) == 1


def test_a_failed_write_is_answered_and_discarded_without_a_row() -> None:
    site = Site()
    site.storage.append_error = OutOfResources("disk full")
    answer = site.store("1.1", b"abc")
    assert isinstance(answer, OutOfResources)
    assert site.storage.staged[0].discarded
    assert site.index.rows == {}


def test_a_write_that_fails_on_the_way_is_answered_at_the_end_and_never_pauses_for_good() -> None:
    site = Site(flush_bytes=4, high_bytes=8)
    site.storage.append_error = OSError(28, "No space left on device")
    intake = site.begin("1.1")
    intake.add(b"12345678")
    resumed: list[bool] = []
    intake.when_writable(lambda: resumed.append(True))
    site.offload.run_all()
    assert resumed == [True]
    assert intake.add(b"more")
    intake.finish(site.answers.append)
    site.offload.run_all()
    assert isinstance(site.answers[0], OutOfResources)
    assert site.storage.staged[0].discarded
    assert site.index.batches == []


def test_one_object_that_cannot_be_sealed_spoils_no_other() -> None:
    site = Site()
    site.storage.seal_errors[b"bad"] = OutOfResources("no room")
    for uid, data in (("1.0", b"first"), ("1.1", b"bad"), ("1.2", b"good")):
        intake = site.begin(uid)
        intake.add(data)
        intake.finish(site.answers.append)
    site.offload.run_all()
    assert isinstance(site.answers[1], OutOfResources)
    assert outcome(site.answers[2]) is Outcome.STORED
    assert set(site.index.rows) == {"1.0", "1.2"}


def test_when_the_database_can_not_say_whether_it_committed_the_file_stays_and_the_sender_is_told() -> None:
    site = Site()
    site.index.error = CommitUndecided("the database was lost while committing")
    answer = site.store("1.1", b"abc")
    assert isinstance(answer, OutOfResources)
    assert answer.dicom_status == 0xA700
    assert len(site.storage.files) == 1
    assert site.storage.settled == []


@pytest.mark.parametrize("was_committed", [True, False])
def test_what_the_database_could_not_say_is_found_out_when_it_is_back(was_committed: bool) -> None:
    site = Site()
    site.index.error = CommitUndecided("the database was lost while committing")
    site.store("1.1", b"abc")
    site.ingest.decide()
    assert len(site.storage.files) == 1
    site.index.error = None
    if was_committed:
        intake = site.begin("1.1", b"meta of another station")
        intake.add(b"abc")
        intake.finish(site.answers.append)
        site.offload.run_all()
    site.ingest.decide()
    assert len(site.storage.files) == 1
    assert len(site.index.rows) == 1


def test_when_the_database_did_not_commit_no_file_stays_and_the_sender_is_told() -> None:
    site = Site()
    site.index.error = OutOfResources("database is locked")
    answer = site.store("1.1", b"abc")
    assert isinstance(answer, OutOfResources)
    assert site.storage.files == {}
    assert site.storage.n_synced == 1


def test_a_file_of_old_is_kept_whatever_the_database_says() -> None:
    site = Site()
    site.store("1.1", b"abc")
    new = site.index.rows["1.1"]
    site.index.error = OutOfResources("database is locked")
    (answer,) = site.ingest.record([new])
    assert isinstance(answer, OutOfResources)
    assert len(site.storage.files) == 1


def test_a_full_thread_pool_answers_busy() -> None:
    site = Site()
    site.offload.full = True
    assert isinstance(site.store("1.1", b"abc"), Busy)


def test_too_many_waiting_objects_are_refused_before_a_byte_is_kept() -> None:
    site = Site(max_ready=1)
    for n in range(2):
        intake = site.begin(f"1.{n}")
        intake.add(b"x")
        intake.finish(site.answers.append)
    with pytest.raises(Busy):
        site.begin("1.9")


@pytest.mark.parametrize("flushed", [False, True])
def test_an_object_whose_sender_vanished_is_discarded(flushed: bool) -> None:
    site = Site(flush_bytes=2 if flushed else 100)
    intake = site.begin("1.1")
    intake.add(b"half an object")
    intake.abort()
    site.offload.run_all()
    assert site.storage.staged[0].discarded
    assert site.index.batches == []


def test_rows_are_made_again_when_a_sync_moved_the_object_to_another_pool() -> None:
    site = Site()
    site.store("1.0", b"before")
    place = StoredFile("p", "d2", hashlib.sha256(b"metaabc").digest(), 7)
    moved = StoredFile("second", "d9", place.digest, 7)
    site.storage.moved[place.path] = moved
    assert outcome(site.store("1.1", b"abc")) is Outcome.STORED
    assert site.index.rows["1.1"].file == moved
    assert site.storage.settled[-1] == moved


def test_an_object_whose_sync_fails_for_good_has_no_row_and_no_acknowledgement() -> None:
    site = Site()
    place = StoredFile("p", "d1", hashlib.sha256(b"metaabc").digest(), 7)
    site.storage.moved[place.path] = OutOfResources("I/O error")
    assert isinstance(site.store("1.1", b"abc"), OutOfResources)
    assert site.index.rows == {}


def test_the_disk_has_ended_before_a_failed_commit_is_answered() -> None:
    site = Site()
    site.index.error = OutOfResources("database locked")
    site.store("1.1", b"abc")
    assert site.storage.n_synced == 1
