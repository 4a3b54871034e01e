"""Orthanc beside a site: it sends, queries, retrieves, and is destination and source of C-MOVE."""

from __future__ import annotations

from io import BytesIO

import pydicom
import pytest

from tests.interop.objects import make_study, read_wire_object, wire_objects
from tests.interop.orthanc import PROGRAM, Orthanc
from tests.interop.peers import find, identifier, move, store

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Orthanc is not installed")
COMPRESSED = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
              "1.2.840.10008.1.2.5")  # fmt: skip


@pytest.fixture(scope="module")
def orthanc(site, tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc"), site) as running:
        site.add_peer(running.title, running.dicom_port)
        yield running


@pytest.fixture(autouse=True)
def empty(orthanc):
    orthanc.clear()


def upload(orthanc, study) -> None:
    for image in study.images:
        buffer = BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        orthanc.post("/instances", buffer.getvalue())


def uids(orthanc, study_uid) -> set[str]:
    found = orthanc.find("Instance", StudyInstanceUID=study_uid)
    return {item["MainDicomTags"]["SOPInstanceUID"] for item in found}


def test_orthanc_s_echo_is_answered(orthanc):
    assert orthanc.post("/modalities/pacsd/echo", {}) == {}


def test_orthanc_sends_a_study_which_is_found(site, orthanc, patient_id):
    study = make_study(patient_id, 5, n_series=2)
    upload(orthanc, study)
    (held,) = orthanc.find("Study", StudyInstanceUID=study.uid)
    sent = orthanc.post("/modalities/pacsd/store", {"Resources": [held["ID"]], "Synchronous": True})
    assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (5, 0)
    asked = identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None,
                       NumberOfStudyRelatedSeries=None, PatientID=None)  # fmt: skip
    (answer,), _ = find(site, asked)
    assert (answer.NumberOfStudyRelatedInstances, answer.NumberOfStudyRelatedSeries) == (5, 2)
    assert answer.PatientID == patient_id


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_orthanc_sends_compressed_images_as_they_are(site, orthanc, samples, syntax):
    (path, *_) = samples.get(syntax) or pytest.skip(f"no sample in {syntax} without the corpus")
    image = pydicom.dcmread(path)
    # Another sample may have its UID in another syntax.
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    held = orthanc.post("/instances", buffer.getvalue())
    assert orthanc.post("/modalities/pacsd/store", held["ID"])["FailedInstancesCount"] == 0
    asked = identifier("IMAGE", SOPInstanceUID=image.SOPInstanceUID, AvailableTransferSyntaxUID=None)
    answers, _ = find(site, asked, relational=True)
    assert [answer.AvailableTransferSyntaxUID for answer in answers] == [syntax]


@pytest.mark.parametrize(
    ("level", "query", "expected"),
    [
        ("Patient", {"PatientID": "{patient}"}, 1),
        ("Study", {"PatientID": "{patient}", "StudyDate": "20240101-"}, 1),
        ("Study", {"PatientName": "TEST^{patient}*"}, 1),
        ("Series", {"StudyInstanceUID": "{study}"}, 2),
        ("Instance", {"StudyInstanceUID": "{study}", "SeriesInstanceUID": "{series}"}, 3),
    ],
)
def test_orthanc_queries_each_level_and_retrieves_what_it_found(
    site, orthanc, patient_id, level, query, expected
):  # fmt: skip
    study = make_study(patient_id, 6, n_series=2)
    store(site, wire_objects(study))
    values = {"patient": patient_id, "study": study.uid, "series": study.series[0]}
    wanted = {name: value.format(**values) for name, value in query.items()}
    done = orthanc.post("/modalities/pacsd/query", {"Level": level, "Query": wanted})
    answers = orthanc.get(f"/queries/{done['ID']}/answers")
    assert len(answers) == expected
    orthanc.post(f"/queries/{done['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    held = set(study.instances[::2]) if level == "Instance" else set(study.instances)
    assert uids(orthanc, study.uid) == held


def test_orthanc_is_a_destination_that_gets_the_bytes_as_they_were_stored(site, orthanc, patient_id, tmp_path):
    study = make_study(patient_id, 4)
    items = {item.sop_instance: item for item in wire_objects(study)}
    store(site, list(items.values()))
    responses, _ = move(site, identifier("STUDY", StudyInstanceUID=study.uid), "ORTHANC")
    assert responses[-1].Status == 0
    for held in orthanc.find("Instance", StudyInstanceUID=study.uid):
        (tmp_path / "file").write_bytes(orthanc.file(held["ID"]))
        got = read_wire_object(tmp_path / "file")
        assert got.data == items.pop(got.sop_instance).data
    assert items == {}


def test_orthanc_is_a_source_from_which_a_site_pulls(site, orthanc, patient_id):
    study = make_study(patient_id, 4)
    upload(orthanc, study)
    # Orthanc must know where to send to: it takes `pacsd` by its title.
    done = site.run("peer", "pull", "ORTHANC", "--study", study.uid, "--config", site.config, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None))
    assert [answer.NumberOfStudyRelatedInstances for answer in answers] == [4]


def test_a_site_asks_orthanc_by_echo_and_find_and_sends_it_studies(site, orthanc, patient_id):
    study = make_study(patient_id, 3)
    store(site, wire_objects(study))
    assert site.run("peer", "echo", "ORTHANC", "--config", site.config).returncode == 0
    done = site.run("peer", "send", "ORTHANC", "--study", study.uid, "--config", site.config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert uids(orthanc, study.uid) == set(study.instances)
    done = site.run("peer", "find", "ORTHANC", f"PatientID={patient_id}", "--config", site.config)
    assert (done.returncode, patient_id in done.stdout) == (0, True), done.stderr


def test_a_site_pulls_from_orthanc_by_c_get(site, orthanc, patient_id):
    study = make_study(patient_id, 2)
    upload(orthanc, study)
    done = site.run("peer", "pull", "ORTHANC", "--get", "--study", study.uid, "--config", site.config)
    assert done.returncode == 0, done.stdout + done.stderr
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None))
    assert [answer.NumberOfStudyRelatedInstances for answer in answers] == [2]
