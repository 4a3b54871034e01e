from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from sqlalchemy import select, text

from pacsd.index.database import Database
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.schema import (
    INSTANCE,
    INSTANCE_HEAD,
    JOB,
    LOCATION,
    PATIENT,
    PATIENT_NAME,
    SERIES,
    SET_ASIDE,
    STUDY,
    STUDY_MODALITY,
)
from pacsd.model.errors import NoSuchInstance
from pacsd.model.objects import ConflictRule, NewInstance, NewJob, Outcome, StoredFile
from tests.index.objects_made import CT, MR, new_instance


def rows(database: Database, *columns: Any) -> list[tuple[Any, ...]]:
    return database.read(lambda c: [tuple(row) for row in c.execute(select(*columns).order_by(columns[0]))])


def outcomes(index: PacsIndex, *batch: NewInstance) -> list[Outcome]:
    return [recorded.outcome for recorded in index.record(batch)]


def assert_counts_are_true(database: Database) -> None:
    """Kept counts equal what counting gives, and no parent is empty."""
    checks = (
        "SELECT count(*) FROM series e WHERE n_instances <> (SELECT count(*) FROM instance i WHERE i.series = e.id)",
        "SELECT count(*) FROM study s WHERE n_series <> (SELECT count(*) FROM series e WHERE e.study = s.id)",
        (
            "SELECT count(*) FROM study s WHERE n_instances <> (SELECT count(*) FROM instance i JOIN series e"
            " ON i.series = e.id WHERE e.study = s.id)"
        ),
        "SELECT count(*) FROM patient p WHERE n_studies <> (SELECT count(*) FROM study s WHERE s.patient = p.id)",
        (
            "SELECT count(*) FROM patient p WHERE n_series <> (SELECT count(*) FROM series e JOIN study s"
            " ON e.study = s.id WHERE s.patient = p.id)"
        ),
        (
            "SELECT count(*) FROM patient p WHERE n_instances <> (SELECT count(*) FROM instance i JOIN series e"
            " ON i.series = e.id JOIN study s ON e.study = s.id WHERE s.patient = p.id)"
        ),
        "SELECT count(*) FROM series WHERE n_instances = 0",
        "SELECT count(*) FROM study WHERE n_series = 0",
        "SELECT count(*) FROM patient WHERE n_studies = 0",
    )
    for check in checks:
        assert database.read(lambda c, check=check: c.scalar(text(check))) == 0, check


def test_a_stored_object_has_all_its_rows(index: PacsIndex, database: Database) -> None:
    job = NewJob("route", {"to": "WS1"}, key="WS1")
    new = new_instance(head=b"head" * 50, outbox=(job,), Rows="512", NumberOfFrames="3")
    [recorded] = index.record([new])
    assert recorded.outcome is Outcome.STORED
    assert rows(database, PATIENT.c.patient_id, PATIENT.c.name, PATIENT.c.n_studies) == [("P1", "Doe^Jane", 1)]
    assert rows(database, STUDY.c.study_uid, STUDY.c.modalities, STUDY.c.sop_classes) == [("1.2.3", "CT", CT)]
    assert rows(database, SERIES.c.series_uid, SERIES.c.n_instances) == [("1.2.3.1", 1)]
    assert rows(database, INSTANCE.c.id, INSTANCE.c.n_rows, INSTANCE.c.n_frames) == [(recorded.instance_id, "512", "3")]
    assert len(rows(database, INSTANCE_HEAD.c.instance)) == len(rows(database, LOCATION.c.instance)) == 1
    assert rows(database, JOB.c.kind, JOB.c.key, JOB.c.payload) == [("route", "WS1", '{"to":"WS1"}')]
    assert rows(database, STUDY_MODALITY.c.modality, STUDY_MODALITY.c.study_date) == [("CT", "20260102")]
    assert_counts_are_true(database)


def test_the_same_bytes_again_are_a_duplicate_and_write_nothing(index: PacsIndex, database: Database) -> None:
    new = new_instance()
    [first] = index.record([new])
    again = new_instance(directory="objects/2026/01/01/b-7", outbox=(NewJob("route"),))
    [second] = index.record([again])
    assert second.outcome is Outcome.DUPLICATE
    assert second.instance_id == first.instance_id
    assert second.existing is not None
    assert second.existing.files == (new.file,)
    assert rows(database, JOB.c.id) == []
    assert_counts_are_true(database)


def test_other_bytes_under_a_held_uid_are_a_conflict_and_write_nothing(index: PacsIndex, database: Database) -> None:
    [first] = index.record([new_instance()])
    [second] = index.record([new_instance("9.9", "9.9.1", content="other", PatientID="P2")])
    assert second.outcome is Outcome.CONFLICT
    assert second.existing is not None
    assert second.existing.instance_id == first.instance_id
    assert second.existing.study_uid == "1.2.3"
    assert [row[0] for row in rows(database, STUDY.c.study_uid)] == ["1.2.3"]
    assert [row[0] for row in rows(database, PATIENT.c.patient_id)] == ["P1"]
    assert len(rows(database, PATIENT_NAME.c.form)) == 1
    assert_counts_are_true(database)
    assert outcomes(index, new_instance("9.9", "9.9.1", "9.9.1.1", PatientID="P2")) == [Outcome.STORED]
    assert_counts_are_true(database)


def test_one_uid_several_times_in_one_batch_is_stored_once(index: PacsIndex, database: Database) -> None:
    batch = [new_instance(content="a"), new_instance(content="a", directory="x"), new_instance(content="b")]
    recorded = index.record(batch)
    assert [r.outcome for r in recorded] == [Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT]
    assert recorded[1].existing is not None
    assert recorded[1].existing.files == (batch[0].file,)
    assert len({r.instance_id for r in recorded}) == 1
    assert_counts_are_true(database)


def test_a_batch_over_many_studies_is_answered_in_its_order(index: PacsIndex, database: Database) -> None:
    batch = [
        new_instance(f"1.{s}", f"1.{s}.{e}", f"1.{s}.{e}.{i}", PatientID=f"P{s % 3}")
        for s in range(5) for e in range(3) for i in range(4)
    ]  # fmt: skip
    random.Random(5).shuffle(batch)
    recorded = index.record(batch)
    assert {r.outcome for r in recorded} == {Outcome.STORED}
    uids = dict(rows(database, INSTANCE.c.id, INSTANCE.c.sop_instance_uid))
    assert [uids[r.instance_id] for r in recorded] == [new.header.sop_instance_uid for new in batch]
    assert_counts_are_true(database)


def test_the_first_demographics_stay_and_blanks_are_filled(index: PacsIndex, database: Database) -> None:
    index.record([new_instance(PatientSex="", StudyDate="", PatientName="")])
    index.record([new_instance(series="1.2.3.2", sop="5", PatientSex="F", StudyDate="20260505", PatientName="A^B")])
    index.record([new_instance(series="1.2.3.3", sop="6", PatientSex="M", PatientName="C^D", Modality="SR")])
    assert rows(database, PATIENT.c.sex, PATIENT.c.name) == [("F", "A^B")]
    assert len(rows(database, PATIENT_NAME.c.form)) == 1
    assert rows(database, STUDY.c.study_date, STUDY.c.modalities) == [("20260505", "CT\\SR")]
    assert rows(database, STUDY_MODALITY.c.modality, STUDY_MODALITY.c.study_date) == [
        ("CT", "20260505"), ("SR", "20260505"),
    ]  # fmt: skip


def test_lists_of_a_study_name_each_modality_and_class_once(index: PacsIndex, database: Database) -> None:
    for number, (modality, sop_class) in enumerate([("MR", MR), ("C", CT), ("CT", CT), ("MR", MR), ("R", CT)]):
        index.record([new_instance(series=f"1.{number}", sop=f"2.{number}", Modality=modality, sop_class=sop_class)])
    assert rows(database, STUDY.c.modalities, STUDY.c.sop_classes) == [("MR\\C\\CT\\R", f"{MR}\\{CT}")]


def test_patients_without_an_id_never_become_one(index: PacsIndex, database: Database) -> None:
    index.record([new_instance("1", "1.1", "1.1.1", PatientID=""), new_instance("2", "2.1", "2.1.1", PatientID="")])
    index.record([new_instance("1", "1.2", "1.2.1", PatientID="")])
    assert rows(database, PATIENT.c.scope, PATIENT.c.n_series) == [("1", 2), ("2", 1)]


def test_equal_ids_of_two_issuers_are_two_patients(index: PacsIndex, database: Database) -> None:
    index.record([new_instance("1", "1.1", "1.1.1", IssuerOfPatientID="A")])
    index.record([new_instance("2", "2.1", "2.1.1", IssuerOfPatientID="B")])
    assert len(rows(database, PATIENT.c.id)) == 2


@pytest.mark.parametrize("value", ["x" * 70_000, "a\0b", "\udcff\ud800", "\u5c71\u7530" * 9000, "'; DROP TABLE"])
def test_no_text_makes_a_store_fail(index: PacsIndex, database: Database, value: str) -> None:
    keywords = [
        "PatientID", "IssuerOfPatientID", "PatientName", "StudyDate", "AccessionNumber", "StudyDescription",
        "Modality", "InstanceNumber", "Rows",
    ]  # fmt: skip
    new = new_instance(value[:9] + "s", value + "e", value, **dict.fromkeys(keywords, value))
    assert outcomes(index, new) == [Outcome.STORED]
    assert outcomes(index, new) == [Outcome.DUPLICATE]
    assert_counts_are_true(database)


def test_rows_deleted_by_others_are_made_again(index: PacsIndex, database: Database) -> None:
    index.record([new_instance()])
    tables = "instance_head location instance series study_modality study patient_name patient_name_token patient"

    def delete(connection: Any) -> None:
        for table in [*tables.split(), "directory", "station", "uid"]:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names from above

    database.write(delete)
    assert outcomes(index, new_instance(sop="7")) == [Outcome.STORED]
    assert_counts_are_true(database)


def test_keep_both_lists_the_later_file_beside_the_first(index: PacsIndex, database: Database) -> None:
    first, other = new_instance(), new_instance(content="other", directory="d2", source_ae="WS9")
    index.record([first])
    recorded = index.record_conflict(other, ConflictRule.KEEP_BOTH)
    assert recorded.outcome is Outcome.KEPT_ASIDE
    [aside] = index.set_aside()
    assert (aside.file, aside.reason, aside.source_ae) == (other.file, "kept-aside", "WS9")
    assert rows(database, INSTANCE.c.digest)[0][0] == first.file.digest
    [again] = index.record([new_instance(content="other", directory="d3")])
    assert again.outcome is Outcome.DUPLICATE
    assert again.existing is not None
    assert again.existing.files == (other.file,)
    assert_counts_are_true(database)


def test_a_lost_aside_file_that_comes_again_is_found_in_its_new_place(index: PacsIndex) -> None:
    [first] = index.record([new_instance()])
    index.record_conflict(new_instance(content="other", directory="d2"), ConflictRule.KEEP_BOTH)
    again = new_instance(content="other", directory="d3")
    index.add_location(first.instance_id, again.file)
    assert [aside.file for aside in index.set_aside()] == [again.file]


def test_replace_lets_the_new_object_answer_and_lists_the_old_file(index: PacsIndex, database: Database) -> None:
    old = new_instance(InstanceNumber="1")
    [first] = index.record([old, new_instance(sop="other")])[:1]
    new = new_instance(content="new", directory="d2", InstanceNumber="2", syntax="1.2.840.10008.1.2")
    recorded = index.record_conflict(new, ConflictRule.REPLACE)
    assert (recorded.outcome, recorded.instance_id) == (Outcome.REPLACED, first.instance_id)
    assert [(aside.file, aside.reason) for aside in index.set_aside()] == [(old.file, "superseded")]
    [duplicate] = index.record([new])
    assert duplicate.existing is not None
    assert duplicate.existing.files == (new.file,)
    assert duplicate.existing.transfer_syntax_uid == "1.2.840.10008.1.2"
    assert_counts_are_true(database)


def test_replace_by_an_object_of_another_study_moves_the_counts(index: PacsIndex, database: Database) -> None:
    index.record([new_instance(), new_instance(series="1.2.3.2", sop="other", Modality="SR", sop_class=MR)])
    new = new_instance("8", "8.1", content="new", PatientID="P8")
    index.record_conflict(new, ConflictRule.REPLACE)
    assert_counts_are_true(database)
    assert rows(database, STUDY.c.study_uid, STUDY.c.modalities, STUDY.c.sop_classes) == [
        ("1.2.3", "SR", MR), ("8", "CT", CT),
    ]  # fmt: skip
    new = new_instance("8", "8.1", "other", content="newer", PatientID="P8")
    index.record_conflict(new, ConflictRule.REPLACE)
    assert_counts_are_true(database)
    assert [row[0] for row in rows(database, PATIENT.c.patient_id)] == ["P8"]
    assert outcomes(index, new_instance(sop="third")) == [Outcome.STORED]
    assert_counts_are_true(database)


def test_refuse_writes_nothing(index: PacsIndex, database: Database) -> None:
    index.record([new_instance()])
    recorded = index.record_conflict(new_instance(content="other"), ConflictRule.REFUSE)
    assert recorded.outcome is Outcome.REFUSED
    assert rows(database, SET_ASIDE.c.id) == []


def test_files_are_added_walked_and_forgotten(index: PacsIndex) -> None:
    batch = [new_instance(sop=f"1.{i}") for i in range(5)]
    ids = [recorded.instance_id for recorded in index.record(batch)]
    copy = StoredFile("second", "d", batch[0].file.digest, batch[0].file.size_bytes)
    resent = StoredFile("main", "d", b"r" * 32, 77)
    index.add_location(ids[0], copy)
    index.add_location(ids[0], resent)
    index.add_location(ids[0], resent)
    walked = []
    cursor = None
    while True:
        found, cursor = index.files(cursor, 2)
        walked += [(located.instance_id, located.file) for located in found]
        if cursor is None:
            break
    assert walked[:3] == [(ids[0], batch[0].file), (ids[0], copy), (ids[0], resent)]
    assert len(walked) == 7
    assert outcomes(index, new_instance(sop="1.0", content="x")) == [Outcome.CONFLICT]
    unknown = b"u" * 32
    assert index.missing([copy.digest, resent.digest, unknown]) == {unknown}
    assert index.forget_location(ids[0], resent)
    assert not index.forget_location(ids[0], resent)
    assert index.forget_location(ids[0], copy)
    assert index.missing([resent.digest, copy.digest]) == {resent.digest}
    assert index.forget_location(ids[0], batch[0].file)
    assert index.missing([copy.digest]) == {copy.digest}
    with pytest.raises(NoSuchInstance):
        index.add_location(10**9, copy)


def test_threads_that_send_the_same_studies_lose_and_double_nothing(index: PacsIndex, database: Database) -> None:
    objects = [
        new_instance(f"1.{s}", f"1.{s}.{e}", f"1.{s}.{e}.{i}", PatientID=f"P{s % 2}", Modality=f"M{e}")
        for s in range(4) for e in range(3) for i in range(3)
    ]  # fmt: skip
    failures: list[BaseException] = []
    stored: list[int] = []
    indexes = [PacsIndex(database) for _ in range(4)]

    def send(number: int) -> None:
        chance = random.Random(number)
        mine = chance.sample(objects, len(objects))
        try:
            while mine:
                batch = [mine.pop() for _ in range(min(len(mine), chance.choice([1, 3, 8])))]
                recorded = indexes[number % 4].record(batch)
                stored.append(sum(r.outcome is Outcome.STORED for r in recorded))
                assert {r.outcome for r in recorded} <= {Outcome.STORED, Outcome.DUPLICATE}
        except BaseException as failure:  # noqa: BLE001 - reported below
            failures.append(failure)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(stored) == len(objects)
    assert_counts_are_true(database)
    assert len(rows(database, PATIENT.c.id)) == 2
    assert {row[1] for row in rows(database, STUDY.c.id, STUDY.c.n_instances)} == {9}
    assert {frozenset(row[0].split("\\")) for row in rows(database, STUDY.c.modalities)} == {
        frozenset({"M0", "M1", "M2"})
    }
    assert len(rows(database, STUDY_MODALITY.c.study)) == 12
