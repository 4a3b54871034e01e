from __future__ import annotations

from typing import Any

import pytest

from pacsd.index.pacs_index import PacsIndex
from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset, Element, encode
from pacsd.model.errors import DatasetMismatch
from pacsd.model.objects import Outcome
from pacsd.model.query import Page, Query, Root, Selector
from pacsd.model.syntax import transfer_syntax
from tests.index.objects_made import CT, EXPLICIT, IMPLICIT, MR, new_instance

STUDY_UID, SERIES_UID, SOP_UID = 0x0020000D, 0x0020000E, 0x00080018
PRIVATE = 0x00091001


def head(syntax: str = EXPLICIT, **values: Any) -> bytes:
    private = values.pop("private", None)
    dataset = Dataset.from_keywords(**values)
    if private is not None:
        dataset[0x00090010] = Element("LO", ("ACME",))
        dataset[PRIVATE] = Element("LO", (private,))
    return encode(Dataset(sorted(dataset.items())), transfer_syntax(syntax), ("ISO_IR 192",))


def ask(
    index: PacsIndex, level: Level, root: Root = Root.STUDY, page_size: int = 100, extra: Any = None, **more: Any
) -> Page:
    options = {name: more.pop(name) for name in list(more) if name[0].islower()}
    keys = Dataset.from_keywords(**more)
    keys.update(extra or {})
    return index.search(Query(root, level, keys, **options), None, page_size)


def uids(page: Page, tag: int = STUDY_UID) -> list[str]:
    assert page.cursor is None
    return sorted(match.text(tag) for match in page.matches)


@pytest.fixture
def filled(index: PacsIndex) -> PacsIndex:
    yamada = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    index.record([
        new_instance("1", "1.1", "1.1.1", PatientID="P1", PatientName="Doe^Jane", StudyDate="20260101",
            StudyTime="0800", AccessionNumber="A1", SeriesDescription="axial", InstanceNumber="1",
            head=head(PatientAge="044Y", StationName="CT1", ImageType="ORIGINAL\\PRIMARY", private="one")),
        new_instance("1", "1.1", "1.1.2", PatientID="P1", PatientName="Doe^Jane", InstanceNumber="02",
            head=head(ImageType="DERIVED\\SECONDARY", private="two",
                ReferencedImageSequence=[Dataset.from_keywords(ReferencedSOPInstanceUID="9.9",
                    ReferencedSOPClassUID=CT)])),
        new_instance("1", "1.2", "1.2.1", PatientID="P1", Modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.11"),
        new_instance("2", "2.1", "2.1.1", PatientID="P2", PatientName=yamada, StudyDate="20260102",
            StudyTime="120000", Modality="MR", sop_class=MR, SeriesDescription="sag", syntax=IMPLICIT,
            head=head(IMPLICIT, PatientAge="030Y")),
        new_instance("3", "3.1", "3.1.1", PatientID="", PatientName="Müller^Jörg", StudyDate="2026.01.03",
            AccessionNumber="A3"),
        new_instance("4", "4.1", "4.1.1", PatientID="P4", PatientName="doering^Ann", StudyDate="", Modality=""),
    ])  # fmt: skip
    return index


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, "1 2 3 4"),
        ({"PatientID": "P1"}, "1"),
        ({"PatientID": "p1"}, ""),
        ({"PatientID": "P*"}, "1 2 4"),
        ({"PatientID": "P?"}, "1 2 4"),
        ({"PatientID": '""'}, "3"),
        ({"PatientID": "P1\\P4"}, "1 4"),
        ({"PatientName": "DOE^JANE"}, "1"),
        ({"PatientName": "do*"}, "1 4"),
        ({"PatientName": "*jane"}, "1"),
        ({"PatientName": "^tarou"}, "2"),
        ({"PatientName": "山田*"}, "2"),
        ({"PatientName": "yamada*"}, "2"),
        ({"PatientName": "*"}, "1 2 3 4"),
        ({"PatientName": "MÜLLER*"}, "3"),
        ({"StudyInstanceUID": "1\\3\\7"}, "1 3"),
        ({"AccessionNumber": "A3"}, "3"),
        ({"AccessionNumber": "A*"}, "1 3"),
        ({"StudyDate": "20260101"}, "1"),
        ({"StudyDate": "20260102-"}, "2 3"),
        ({"StudyDate": "-20260102"}, "1 2"),
        ({"StudyDate": "20260102-20260103"}, "2 3"),
        ({"StudyDate": "20260102-20260103", "PatientName": "y*"}, "2"),
        ({"StudyDate": "20260101-20260102", "StudyTime": "0900-1300"}, "2"),
        ({"ModalitiesInStudy": "SR"}, "1"),
        ({"ModalitiesInStudy": "SR\\MR"}, "1 2"),
        ({"ModalitiesInStudy": "C*"}, "1 3"),
        ({"ModalitiesInStudy": "MR", "StudyDate": "20260101-20260131"}, "2"),
        ({"ModalitiesInStudy": "MR", "PatientName": "doe*"}, ""),
        ({"SOPClassesInStudy": MR}, "2"),
        ({"StudyDate": "20260101-", "ModalitiesInStudy": "CT", "PatientName": "doe*"}, "1"),
    ],
)
def test_a_study_is_found_by(filled: PacsIndex, keys: dict[str, str], found: str) -> None:
    assert uids(ask(filled, Level.STUDY, **{"StudyInstanceUID": "", **keys})) == found.split()


def test_answers_hold_what_was_asked_for_and_nothing_else(filled: PacsIndex) -> None:
    asked = dict.fromkeys((
        "PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy", "SOPClassesInStudy",
        "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "InstanceAvailability", "PatientAge",
    ), "")  # fmt: skip
    [match] = ask(filled, Level.STUDY, StudyInstanceUID="1", RetrieveAETitle="", **asked).matches
    assert {tag: element.value for tag, element in match.items()} == {
        0x00080020: ("20260101",),
        0x00080056: ("ONLINE",),
        0x00080061: ("CT", "SR"),
        0x00080062: (CT, "1.2.840.10008.5.1.4.1.1.88.11"),
        0x00081030: (),
        0x00100010: ("Doe^Jane",),
        0x00100020: ("P1",),
        0x00101010: ("044Y",),
        0x0020000D: ("1",),
        0x00201200: ("1",),
        0x00201202: ("2",),
        0x00201204: ("3",),
        0x00201206: ("2",),
        0x00201208: ("3",),
    }
    assert list(match) == sorted(match)


def test_patients_series_and_instances_are_found(filled: PacsIndex) -> None:
    patients = ask(filled, Level.PATIENT, Root.PATIENT, PatientID="", PatientName="")
    assert sorted(match.text(0x00100020) for match in patients.matches) == ["", "P1", "P2", "P4"]
    studies = ask(filled, Level.STUDY, Root.PATIENT, PatientID="P1", StudyInstanceUID="")
    assert uids(studies) == ["1"]
    series = ask(filled, Level.SERIES, StudyInstanceUID="1", SeriesInstanceUID="", NumberOfSeriesRelatedInstances="")
    assert sorted((m.text(SERIES_UID), m.text(0x00201209)) for m in series.matches) == [("1.1", "2"), ("1.2", "1")]
    assert uids(ask(filled, Level.SERIES, StudyInstanceUID="1", SeriesInstanceUID="", Modality="SR"), SERIES_UID) == [
        "1.2"
    ]
    image = ask(
        filled, Level.IMAGE, StudyInstanceUID="1", SeriesInstanceUID="1.1", SOPInstanceUID="", InstanceNumber="2",
        AvailableTransferSyntaxUID="", SOPClassUID="",
    )  # fmt: skip
    [match] = image.matches
    assert (match.text(SOP_UID), match.text(0x00083002), match.text(0x00080016)) == ("1.1.2", EXPLICIT, CT)


def test_attributes_without_a_column_are_matched_and_answered_from_the_received_header(filled: PacsIndex) -> None:
    above = {"StudyInstanceUID": "1", "SeriesInstanceUID": "1.1", "SOPInstanceUID": ""}
    assert uids(ask(filled, Level.IMAGE, **above, ImageType="DERIVED"), SOP_UID) == ["1.1.2"]
    page = ask(filled, Level.IMAGE, **above, extra={PRIVATE: Element("LO", ("o*",))})
    assert uids(page, SOP_UID) == ["1.1.1"]
    assert page.matches[0][PRIVATE] == Element("LO", ("one",))
    wanted = [Dataset.from_keywords(ReferencedSOPInstanceUID="9.9")]
    page = ask(filled, Level.IMAGE, **above, ReferencedImageSequence=wanted)
    assert uids(page, SOP_UID) == ["1.1.2"]
    assert page.matches[0].sequence(0x00081140) == (Dataset.from_keywords(ReferencedSOPInstanceUID="9.9"),)
    assert uids(ask(filled, Level.STUDY, StudyInstanceUID="", PatientAge="030Y")) == ["2"]


def test_keys_of_lower_levels_are_unsupported_unless_the_query_is_relational(filled: PacsIndex) -> None:
    page = ask(filled, Level.STUDY, StudyInstanceUID="", SeriesDescription="axial")
    assert page.unsupported
    assert uids(page) == ["1", "2", "3", "4"]
    page = ask(filled, Level.STUDY, StudyInstanceUID="", SeriesDescription="axial", relational=True)
    assert not page.unsupported
    assert uids(page) == ["1"]


@pytest.mark.parametrize(
    ("level", "keys", "tag", "found"),
    [
        (Level.STUDY, {"SOPInstanceUID": "2.1.1"}, STUDY_UID, "2"),
        (Level.STUDY, {"SeriesInstanceUID": "1.2"}, STUDY_UID, "1"),
        (Level.STUDY, {"Modality": "SR", "PatientName": "d*"}, STUDY_UID, "1"),
        (Level.STUDY, {"SeriesDescription": "ax*", "Modality": "SR"}, STUDY_UID, ""),
        (Level.STUDY, {"SOPClassUID": MR}, STUDY_UID, "2"),
        (Level.PATIENT, {"StudyDate": "20260102"}, 0x00100020, "P2"),
        (Level.SERIES, {"PatientName": "doe^j*"}, SERIES_UID, "1.1 1.2"),
        (Level.SERIES, {"StudyDate": "20260101-20260102"}, SERIES_UID, "1.1 1.2 2.1"),
        (Level.IMAGE, {"PatientID": "P1"}, SOP_UID, "1.1.1 1.1.2 1.2.1"),
        (Level.IMAGE, {"InstanceNumber": "1"}, SOP_UID, "1.1.1"),
        (Level.IMAGE, {"ModalitiesInStudy": "MR"}, SOP_UID, "2.1.1"),
        (Level.IMAGE, {"PatientID": "P*"}, SOP_UID, "1.1.1 1.1.2 1.2.1 2.1.1 4.1.1"),
    ],
)
def test_relational_queries_take_keys_of_any_level(
    filled: PacsIndex, level: Level, keys: dict[str, str], tag: int, found: str
) -> None:
    extra = {tag: Element("UI", ())}
    asked = {"extra": extra, **keys}
    assert uids(ask(filled, level, Root.PATIENT, relational=True, **asked), tag) == found.split()


@pytest.mark.parametrize(
    ("root", "level", "keys"),
    [
        (Root.PATIENT, Level.STUDY, {}),
        (Root.PATIENT, Level.STUDY, {"PatientID": ""}),
        (Root.STUDY, Level.SERIES, {"PatientID": "P1"}),
        (Root.STUDY, Level.IMAGE, {"StudyInstanceUID": "1"}),
        (Root.STUDY, Level.SERIES, {"StudyInstanceUID": "1\\2"}),
        (Root.STUDY, Level.PATIENT, {"PatientID": "P1"}),
        (Root.PATIENT_STUDY_ONLY, Level.SERIES, {"PatientID": "P1", "StudyInstanceUID": "1"}),
        (Root.STUDY, Level.STUDY, {"StudyDate": "yesterday"}),
    ],
)
def test_what_the_model_does_not_allow_is_a_mismatch(
    filled: PacsIndex, root: Root, level: Level, keys: dict[str, str]
) -> None:
    with pytest.raises(DatasetMismatch):
        ask(filled, level, root, **keys)


def test_date_and_time_are_one_range_where_that_was_negotiated(filled: PacsIndex) -> None:
    keys = {"StudyInstanceUID": "", "StudyDate": "20260101-20260102", "StudyTime": "1000-1100"}
    assert uids(ask(filled, Level.STUDY, **keys)) == []
    assert uids(ask(filled, Level.STUDY, **keys, combined_datetime=True)) == []
    keys["StudyTime"] = "1000-1300"
    assert uids(ask(filled, Level.STUDY, **keys, combined_datetime=True)) == ["2"]
    keys["StudyTime"] = "0700-0100"
    assert uids(ask(filled, Level.STUDY, **keys, combined_datetime=True)) == ["1"]
    assert uids(ask(filled, Level.STUDY, **keys, combined_datetime=True, ModalitiesInStudy="CT")) == ["1"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("jane doe", "1"), ("mueller", "3"), ("muller jorg", "3"), ("jayne", "1"), ("do* ann", "4"), ("tarou", "2")],
)
def test_fuzzy_names_ignore_order_diacritics_and_spelling(filled: PacsIndex, name: str, found: str) -> None:
    assert uids(ask(filled, Level.STUDY, StudyInstanceUID="", PatientName=name, fuzzy=True)) == found.split()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"PatientName": "d*"},
        {"StudyDate": "20260101-20260131"},
        {"StudyDate": "20260101-20260131", "ModalitiesInStudy": "CT"},
        {"PatientID": "P*"},
        {"AccessionNumber": "A1"},
        {"PatientAge": ""},
        {"StudyTime": "0801-0859"},
    ],
)
@pytest.mark.parametrize("page_size", [1, 7])
def test_pages_give_each_match_once(index: PacsIndex, keys: dict[str, str], page_size: int) -> None:
    for n in range(60):
        name = f"Doe^{n % 7}=Doe^{n % 7}x" if n % 3 else "Dot^A"
        new = new_instance(
            f"1.{n}", f"1.{n}.1", f"1.{n}.1.1", PatientID=f"P{n % 11}", PatientName=name,
            StudyDate=f"202601{n % 20 + 1:02}", AccessionNumber="A1", StudyTime=f"08{n:02}",
        )  # fmt: skip
        index.record([new])
    query = Query(Root.STUDY, Level.STUDY, Dataset.from_keywords(StudyInstanceUID="", **keys))
    whole = index.search(query, None, 1000)
    assert whole.cursor is None
    seen: list[str] = []
    cursor = None
    while True:
        page = index.search(query, cursor, page_size)
        assert len(page.matches) <= page_size
        seen += [match.text(STUDY_UID) for match in page.matches]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [match.text(STUDY_UID) for match in whole.matches]
    assert len(seen) == len(set(seen)) == (59 if "StudyTime" in keys else 60)


def test_a_selector_pages_through_its_instances_by_series(filled: PacsIndex) -> None:
    def walk(selector: Selector) -> list[str]:
        seen: list[str] = []
        after = 0
        while found := filled.instances(selector, after, 2):
            seen += [instance.sop_instance_uid for instance in found]
            after = found[-1].instance_id
        assert filled.count_instances(selector) == len(seen)
        return seen

    assert walk(Selector(study_uids=("1",))) == ["1.1.1", "1.1.2", "1.2.1"]
    assert walk(Selector(study_uids=("1", "2"), series_uids=("1.2", "2.1"))) == ["1.2.1", "2.1.1"]
    assert walk(Selector(patient_ids=("P1",))) == ["1.1.1", "1.1.2", "1.2.1"]
    assert walk(Selector(patient_ids=("P1",), issuer="other")) == []
    assert walk(Selector(sop_instance_uids=("2.1.1", "1.1.2", "7"))) == ["1.1.2", "2.1.1"]
    assert walk(Selector(patient_ids=("P2",), study_uids=("1",))) == []
    for call in (lambda: filled.instances(Selector(), 0, 5), lambda: filled.count_instances(Selector())):
        with pytest.raises(DatasetMismatch):
            call()


def test_instances_are_looked_up_with_their_files(filled: PacsIndex) -> None:
    found = {instance.sop_instance_uid: instance for instance in filled.lookup(["1.1.1", "2.1.1", "nowhere"])}
    assert sorted(found) == ["1.1.1", "2.1.1"]
    [again] = filled.record([new_instance("2", "2.1", "2.1.1")])
    assert again.outcome is Outcome.DUPLICATE
    assert again.existing == found["2.1.1"]
    assert found["2.1.1"].transfer_syntax_uid == IMPLICIT
    assert len(found["2.1.1"].files) == 1
