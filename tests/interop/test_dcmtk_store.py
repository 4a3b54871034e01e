"""DCMTK's storescu as a modality: each of its transfer syntax profiles, and what it does to associations."""

from __future__ import annotations

import subprocess

import numpy as np
import pydicom
import pytest

from tests.interop import dcmtk
from tests.interop.objects import make_study
from tests.interop.peers import find, identifier

PROFILES = {
    "-xi": "1.2.840.10008.1.2",
    "-xe": "1.2.840.10008.1.2.1",
    "-xb": "1.2.840.10008.1.2.2",
    "-xd": "1.2.840.10008.1.2.1.99",
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xr": "1.2.840.10008.1.2.5",
}


def files_of(site) -> set:
    return set((site.pool / "objects").rglob("*.dcm"))


def test_echoscu_gets_an_answer_with_any_number_of_contexts_and_syntaxes(site):
    assert dcmtk.call("echoscu", *dcmtk.at(site)).returncode == 0
    assert dcmtk.call("echoscu", *dcmtk.at(site), "-ppc", 128, "-pts", 3, "--repeat", 5).returncode == 0


def test_echoscu_that_aborts_harms_nobody(site):
    dcmtk.call("echoscu", *dcmtk.at(site), "--abort")
    assert dcmtk.call("echoscu", *dcmtk.at(site)).returncode == 0


def test_a_wrong_called_title_is_rejected_by_its_reason(site):
    done = dcmtk.call("echoscu", "-v", "-aec", "NOBODY", site.host, site.dicom_port)
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr


@pytest.mark.parametrize("combined", [(), ("+C",), ("-R",)], ids=["apart", "combined", "required-only"])
@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_of_storescu_is_stored_in_the_syntax_that_it_sends(site, samples, profile, combined, tmp_path):
    syntax = PROFILES[profile]
    (path, *_) = samples.get(syntax) or pytest.skip(f"no sample in {syntax} without the corpus")
    before = files_of(site)
    # A new instance UID, so that each run is a new object.
    done = dcmtk.storescu(site, profile, *combined, "+II", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(Success)" in done.stdout + done.stderr
    (file,) = files_of(site) - before
    kept, original = pydicom.dcmread(file), pydicom.dcmread(path)
    answers, _ = find(
        site,
        identifier("IMAGE", SOPInstanceUID=kept.SOPInstanceUID, AvailableTransferSyntaxUID=None),
        relational=True,
    )
    assert [answer.AvailableTransferSyntaxUID for answer in answers] == [kept.file_meta.TransferSyntaxUID]
    if combined == ("+C",) and kept.file_meta.TransferSyntaxUID != syntax:
        # All syntaxes in one context: which one is ours to choose, and storescu converts between native ones.
        assert not kept.file_meta.TransferSyntaxUID.is_compressed
        assert np.array_equal(kept.pixel_array, original.pixel_array)
    else:
        assert kept.file_meta.TransferSyntaxUID == syntax
        assert kept.PixelData == original.PixelData


CONFIGURATION = """\
[[TransferSyntaxes]]
[Native]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = BigEndianExplicit
TransferSyntax3 = LittleEndianImplicit
[Implicit]
TransferSyntax1 = LittleEndianImplicit
[[PresentationContexts]]
[ContextsNative]
PresentationContext1 = CTImageStorage\\Native
[ContextsImplicit]
PresentationContext1 = CTImageStorage\\Implicit
[ContextsTwice]
PresentationContext1 = CTImageStorage\\Implicit
PresentationContext2 = CTImageStorage\\Native
PresentationContext3 = MRImageStorage\\Native
[[Profiles]]
[Native]
PresentationContexts = ContextsNative
[Implicit]
PresentationContexts = ContextsImplicit
[Twice]
PresentationContexts = ContextsTwice
"""


@pytest.mark.parametrize("profile", ["Native", "Implicit", "Twice"])
def test_profiles_of_a_configuration_file_are_served(site, patient_id, tmp_path, profile):
    (tmp_path / "storescu.cfg").write_text(CONFIGURATION, "ascii")
    study = make_study(patient_id, 2)
    done = dcmtk.storescu(site, "-xf", tmp_path / "storescu.cfg", profile, *study.files(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    asked = identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None)
    answers, _ = find(site, asked)
    assert [answer.NumberOfStudyRelatedInstances for answer in answers] == [2]


@pytest.mark.parametrize("pdu", [4096, 16384, 131072])
def test_storescu_with_any_pdu_length_stores_a_large_object(site, patient_id, tmp_path, pdu):
    study = make_study(patient_id, 2, side=600)
    done = dcmtk.storescu(site, "-xe", "-pdu", pdu, "--max-send-pdu", pdu, *study.files(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None))
    assert [answer.NumberOfStudyRelatedInstances for answer in answers] == [2]


def test_storescu_that_aborts_after_its_objects_has_stored_them(site, patient_id, tmp_path):
    study = make_study(patient_id, 3)
    dcmtk.storescu(site, "--abort", *study.files(tmp_path))
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, NumberOfStudyRelatedInstances=None))
    assert [answer.NumberOfStudyRelatedInstances for answer in answers] == [3]


def test_four_storescu_at_once_that_send_one_study_make_one_study(site, patient_id, tmp_path):
    study = make_study(patient_id, 40, n_series=2)
    files = study.files(tmp_path)
    command = ["storescu", *map(str, dcmtk.at(site))]
    # Every image is sent by two of the four, at the same time.
    halves = [files[::2], files[1::2], files[::2], files[1::2]]
    running = [subprocess.Popen([*command, *map(str, part)], stderr=subprocess.DEVNULL) for part in halves]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    asked = identifier("STUDY", PatientID=patient_id, StudyInstanceUID=None, NumberOfStudyRelatedInstances=None,
                       NumberOfStudyRelatedSeries=None, NumberOfPatientRelatedStudies=None)  # fmt: skip
    (answer,), _ = find(site, asked)
    assert (answer.NumberOfStudyRelatedInstances, answer.NumberOfStudyRelatedSeries) == (40, 2)
    assert answer.NumberOfPatientRelatedStudies == 1


def test_space_padded_uids_are_stored_and_found_without_the_padding(site, patient_id, tmp_path):
    study = make_study(patient_id, 1)
    (path,) = study.files(tmp_path)
    raw = path.read_bytes()
    for uid in (study.uid, study.instances[0], study.series[0]):
        padded = uid.encode() + (b"\0" if len(uid) % 2 else b"")
        raw = raw.replace(padded, padded.replace(b"\0", b" "))
    path.write_bytes(raw)
    done = dcmtk.storescu(site, "--uid-padding", path)
    assert done.returncode == 0, done.stdout + done.stderr
    answers, _ = find(site, identifier("STUDY", StudyInstanceUID=study.uid, PatientID=None))
    assert [answer.PatientID for answer in answers] == [patient_id]
