"""DCMTK's findscu as a workstation: levels and roots, the kinds of matching, character sets, C-CANCEL."""

from __future__ import annotations

import re

import pytest

from tests.interop import dcmtk
from tests.interop.objects import MR, make_study, wire_objects
from tests.interop.peers import store


@pytest.fixture(scope="module")
def study(site):
    """A study of two series."""
    made = make_study("FIND1", 6, n_series=2, StudyDescription="Thorax nativ", PatientName="Fischer^Anna^^Dr")
    store(site, wire_objects(made))
    return made


@pytest.fixture(scope="module")
def others(site, study):
    """Further patients, so that a filter has something to leave out."""
    made = [
        make_study("FIND2", 1, StudyDate="20230101", StudyTime="235959", PatientName="Fischer^Bernd"),
        make_study("FIND3", 1, sop_class=MR, modality="MR", StudyDate="20250630", PatientName="Meier^Anna"),
        make_study("FIND3", 1, StudyDate="20250701", PatientName="Meier^Anna"),
    ]
    for item in made:
        store(site, wire_objects(item))
    return made


ROOTS = {"-P": ("PATIENT", "STUDY", "SERIES", "IMAGE"), "-S": ("STUDY", "SERIES", "IMAGE"), "-O": ("PATIENT", "STUDY")}
ABOVE = {"PATIENT": (), "STUDY": ("patient",), "SERIES": ("patient", "study"), "IMAGE": ("patient", "study", "series")}
N_AT = {"PATIENT": 1, "STUDY": 1, "SERIES": 2, "IMAGE": 3}


@pytest.mark.parametrize(("root", "level"), [(root, level) for root, levels in ROOTS.items() for level in levels])
def test_every_level_of_every_root_is_answered(site, study, others, tmp_path, root, level):
    known = {
        "patient": ("PatientID", study.patient_id),
        "study": ("StudyInstanceUID", study.uid),
        "series": ("SeriesInstanceUID", study.series[0]),
    }
    wanted: dict[str, str | None] = {"QueryRetrieveLevel": level}
    wanted |= dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    wanted |= dict(known[name] for name in ABOVE[level] if root != "-S" or name != "patient")
    if level in {"PATIENT", "STUDY"}:
        wanted["PatientID"] = study.patient_id
    answers = dcmtk.findscu(site, tmp_path, root, *dcmtk.keys(**wanted))
    assert len(answers) == N_AT[level]
    assert {answer.QueryRetrieveLevel for answer in answers} == {level}
    if level in {"SERIES", "IMAGE"}:
        assert {answer.SeriesInstanceUID for answer in answers} <= set(study.series)
    if level == "IMAGE":
        assert {answer.SOPInstanceUID for answer in answers} == set(study.instances[::2])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"PatientName": "Fischer*"}, {"FIND1", "FIND2"}),
        ({"PatientName": "fischer^a*"}, {"FIND1"}),
        ({"PatientName": "M*^ANNA"}, {"FIND3"}),
        # A name's components that the key leaves out match any.
        ({"PatientName": "*^ANNA"}, {"FIND1", "FIND3"}),
        ({"PatientName": "M?ier*"}, {"FIND3"}),
        ({"PatientID": "FIND?"}, {"FIND1", "FIND2", "FIND3"}),
        ({"StudyDate": "20240101-20241231"}, {"FIND1"}),
        ({"StudyDate": "-20231231"}, {"FIND2"}),
        ({"StudyDate": "20250701-"}, {"FIND3"}),
        ({"StudyDate": "20250630"}, {"FIND3"}),
        ({"StudyTime": "2300-"}, {"FIND2"}),
        ({"ModalitiesInStudy": "MR"}, {"FIND3"}),
        ({"StudyDescription": "Thorax*"}, {"FIND1"}),
        ({"PatientSex": "M"}, set()),
    ],
    ids=lambda value: next(iter(value.items()))[1] if isinstance(value, dict) else "",
)
def test_keys_match_as_the_standard_says(site, others, tmp_path, asked, found):
    asked = {"PatientID": "FIND*"} | asked
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=None, **asked)
    answers = dcmtk.findscu(site, tmp_path, "-S", *wanted)
    assert {answer.PatientID for answer in answers} == found


def test_a_list_of_uids_gives_each(site, study, others, tmp_path):
    uids = [study.uid, others[0].uid, "1.2.3.4.5"]
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="\\".join(uids))
    answers = dcmtk.findscu(site, tmp_path, "-S", *wanted)
    assert {answer.StudyInstanceUID for answer in answers} == set(uids[:2])


def test_return_keys_tell_what_is_in_a_study(site, study, tmp_path):
    names = ("ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
             "NumberOfPatientRelatedStudies", "InstanceAvailability", "RetrieveAETitle", "StudyDescription",
             "PatientBirthDate")  # fmt: skip
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid, **dict.fromkeys(names))
    (answer,) = dcmtk.findscu(site, tmp_path, "-S", *wanted)
    assert (answer.ModalitiesInStudy, answer.SOPClassesInStudy) == ("CT", study.images[0].SOPClassUID)
    assert (answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances) == (2, 6)
    assert (answer.NumberOfPatientRelatedStudies, answer.InstanceAvailability) == (1, "ONLINE")
    assert (answer.RetrieveAETitle, answer.StudyDescription) == ("PACSD", "Thorax nativ")
    assert answer.PatientBirthDate == "19700101"


@pytest.mark.parametrize("syntax", ["-xe", "-xb", "-xi"])
def test_findscu_may_propose_any_uncompressed_syntax(site, study, tmp_path, syntax):
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid, PatientName=None)
    (answer,) = dcmtk.findscu(site, tmp_path, syntax, "-S", *wanted)
    assert str(answer.PatientName) == "Fischer^Anna^^Dr"


A900 = "Error: DataSetDoesNotMatchSOPClass"

NAMES = {
    "ISO_IR 100": ("Müller^Jürgen", "latin-1"),
    "ISO_IR 192": ("Müller^Jürgen", "utf-8"),
    "ISO_IR 144": ("Люкceмбypг", "iso8859-5"),
}


@pytest.mark.parametrize("charset", NAMES)
def test_names_are_found_and_answered_in_the_character_set_of_the_question(site, patient_id, tmp_path, charset):
    name, codec = NAMES[charset]
    store(site, wire_objects(make_study(patient_id, 1, PatientName=name, SpecificCharacterSet="ISO_IR 192")))
    asked = name[:4].encode(codec) + b"*"
    # The argument reaches findscu as bytes, as from a terminal in that character set.
    query = [b"-k", b"SpecificCharacterSet=" + charset.encode(), b"-k", b"PatientName=" + asked]
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=None, PatientID=patient_id)
    answers = findscu_bytes(site, tmp_path, "-S", *wanted, *query)
    assert [str(answer.PatientName) for answer in answers] == [name]
    assert answers[0].SpecificCharacterSet == charset


def test_an_answer_that_the_asked_character_set_cannot_hold_comes_in_utf_8(site, patient_id, tmp_path):
    store(site, wire_objects(make_study(patient_id, 1, PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192")))
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", SpecificCharacterSet="ISO_IR 100", PatientName=None,
                        PatientID=patient_id)  # fmt: skip
    (answer,) = dcmtk.findscu(site, tmp_path, "-S", *wanted)
    assert (answer.SpecificCharacterSet, str(answer.PatientName)) == ("ISO_IR 192", "山田^太郎")


def test_a_japanese_name_is_found_by_each_of_its_groups(site, patient_id, tmp_path):
    name = "Yamada^Hanako=山田^花子=やまだ^はなこ"
    store(
        site,
        wire_objects(
            make_study(patient_id, 1, PatientName=name, SpecificCharacterSet=["ISO 2022 IR 6", "ISO 2022 IR 87"])
        ),
    )
    for number, asked in enumerate(("yamada*", "山田*", "やまだ*")):
        query = [b"-k", b"SpecificCharacterSet=ISO_IR 192", b"-k", f"PatientName={asked}".encode()]
        wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=None, PatientID=patient_id)
        answers = findscu_bytes(site, tmp_path / str(number), "-S", *wanted, *query)
        assert [str(answer.PatientName) for answer in answers] == [name]


def findscu_bytes(site, folder, *arguments):
    return dcmtk.findscu(site, folder, *(dcmtk.as_argument(part) for part in arguments))


def test_an_unsupported_level_is_refused_with_a_comment(site):
    done = dcmtk.call("findscu", "-v", "-S", *dcmtk.at(site), *dcmtk.keys(QueryRetrieveLevel="PATIENT", PatientID="*"))
    assert A900 in done.stdout + done.stderr


def test_a_missing_unique_key_above_the_level_is_refused(site):
    wanted = dcmtk.keys(QueryRetrieveLevel="SERIES", SeriesInstanceUID=None)
    done = dcmtk.call("findscu", "-v", "-S", *dcmtk.at(site), *wanted)
    assert A900 in done.stdout + done.stderr


def test_findscu_that_cancels_gets_its_final_answer(site, patient_id, tmp_path):
    many = make_study(patient_id, 300)
    store(site, wire_objects(many))
    wanted = dcmtk.keys(QueryRetrieveLevel="IMAGE", StudyInstanceUID=many.uid, SeriesInstanceUID=many.series[0],
                        SOPInstanceUID=None)  # fmt: skip
    done = dcmtk.call("findscu", "-v", "-S", "--cancel", 1, *dcmtk.at(site), *wanted)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Releasing Association" in told
    assert re.search(r"Final Find Response.*(Cancel|Success)", told), told
