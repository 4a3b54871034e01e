from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file

from pacsd.model.objects import ObjectHeader
from pacsd.storage.header import HEAD_BYTES, HEAD_CUT, derived_uid, read_file_header, read_header
from pacsd.storage.server import FileServer
from tests.storage.conftest import CT_STORAGE, EXPLICIT_LITTLE, dataset, element, sealed, stage

STUDY, SERIES, PATIENT_ID, STUDY_DATE, ROWS = 0x0020000D, 0x0020000E, 0x00100020, 0x00080020, 0x00280010


def read(*elements: bytes, instance: str = "1.2.3.4") -> ObjectHeader:
    head = b"".join(elements)
    return read_header(CT_STORAGE, instance, EXPLICIT_LITTLE, head, len(head))


def test_a_usual_object_has_its_values_and_no_flags() -> None:
    header = read(dataset())
    assert (header.study_uid, header.series_uid, header.sop_instance_uid) == ("1.2.3", "1.2.4", "1.2.3.4")
    assert header.values[PATIENT_ID] == "P1"
    assert header.flags == frozenset()
    assert dataset().startswith(header.head)


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"],
)
def test_values_are_those_that_a_full_decode_gives(name: str) -> None:
    path = get_testdata_file(name)
    header, meta = read_file_header(str(path))
    expected = dcmread(path)
    assert header.study_uid == expected.StudyInstanceUID
    assert header.sop_instance_uid == expected.SOPInstanceUID
    assert header.values[ROWS] == str(expected.Rows)
    assert header.values[PATIENT_ID] == str(expected.PatientID).strip()
    assert meta.transfer_syntax_uid == expected.file_meta.TransferSyntaxUID


def test_missing_uids_are_derived_always_the_same_and_flagged() -> None:
    header, again = read(element(PATIENT_ID, "LO", b"P1")), read(element(PATIENT_ID, "LO", b"P1"))
    assert {"missing-study-uid", "missing-series-uid"} <= header.flags
    assert header.study_uid == again.study_uid == derived_uid("study", "1.2.3.4")
    assert header.study_uid != header.series_uid
    assert header.study_uid.startswith("2.25.")
    assert len(header.study_uid) <= 64


def test_objects_that_share_an_impossible_uid_stay_together() -> None:
    one = read(element(STUDY, "UI", b"not a UID "), instance="1.1")
    other = read(element(STUDY, "UI", b"not a UID "), instance="1.2")
    assert one.study_uid == other.study_uid
    assert "bad-study-uid" in one.flags


@pytest.mark.parametrize("padding", [b" ", b"  ", b"\0\0", b" \0"])
def test_padding_of_uids_is_cleaned_and_flagged(padding: bytes) -> None:
    header = read(element(STUDY, "UI", b"1.2.3" + padding), element(SERIES, "UI", b"1.2.4\0"))
    assert header.study_uid == "1.2.3"
    assert "padded-uid" in header.flags


def test_one_null_behind_a_uid_is_as_it_should_be() -> None:
    assert "padded-uid" not in read(dataset()).flags


@pytest.mark.parametrize("date", [b"20240230x", b"2024.1.1", b"garbage ", b"20241301"])
def test_a_bad_date_is_kept_as_text_and_flagged(date: bytes) -> None:
    header = read(element(STUDY_DATE, "DA", date))
    assert header.values[STUDY_DATE] == date.decode().strip()
    assert "bad-date" in header.flags


def test_other_uids_than_the_requests_are_flagged_and_the_requests_stand() -> None:
    header = read(dataset("9.9.9"))
    assert header.sop_instance_uid == "1.2.3.4"
    assert "uid-mismatch" in header.flags


def test_without_a_request_the_data_sets_uids_stand() -> None:
    head = dataset("9.9.9")
    header = read_header("", "", EXPLICIT_LITTLE, head, len(head))
    assert header.sop_instance_uid == "9.9.9"


def test_a_missing_patient_id_is_flagged() -> None:
    assert "missing-patient-id" in read(element(STUDY, "UI", b"1.2.3\0")).flags


def test_text_in_another_character_set_becomes_unicode() -> None:
    header = read(element(0x00080005, "CS", b"ISO_IR 100"), element(0x00100010, "PN", b"Buc^J\xe9r\xf4me "))
    assert header.values[0x00100010] == "Buc^J\xe9r\xf4me"


def test_text_that_is_not_in_its_character_set_is_kept_and_flagged() -> None:
    header = read(element(0x00080005, "CS", b"ISO_IR 192"), element(0x00100010, "PN", b"Buc^J\xe9r\xf4me "))
    assert header.values[0x00100010]
    assert "wrong-charset" in header.flags


@pytest.mark.parametrize("where", ["private", "undefined-length"])
def test_uids_behind_the_head_are_found_in_the_file(server: FileServer, where: str) -> None:
    """An element larger than the head stands before the UIDs; after a crash the same header comes out."""
    filler = bytes(HEAD_BYTES * 2)
    if where == "private":
        large = element(0x00091010, "OB", filler)
    else:
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + element(0x00091010, "OB", filler)
        item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        large = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item
    content = large + dataset()[dataset().index(element(PATIENT_ID, "LO", b"P1")) :]
    staged = stage(server, content)
    assert HEAD_CUT in server.read_header(CT_STORAGE, "1.2.3.4", EXPLICIT_LITTLE, staged.head).flags
    (file,) = sealed(server, staged)
    header = server.read_file_header(file)
    assert (header.study_uid, header.values[PATIENT_ID]) == ("1.2.3", "P1")
    assert HEAD_CUT not in header.flags


def test_a_head_that_reaches_pixel_data_says_what_the_file_says(server: FileServer) -> None:
    staged = stage(server, dataset(n_pixel_bytes=200_000))
    header = server.read_header(CT_STORAGE, "1.2.3.4", EXPLICIT_LITTLE, staged.head)
    (file,) = sealed(server, staged)
    assert server.read_file_header(file) == header


@given(
    st.binary(max_size=400),
    st.integers(0, 100),
    st.sampled_from([EXPLICIT_LITTLE, "1.2.840.10008.1.2", "9.9"]),
)
def test_no_content_raises(tail: bytes, cut: int, syntax: str) -> None:
    head = dataset()[:cut] + tail
    for total in (len(head), None, len(head) + 1000):
        header = read_header(CT_STORAGE, "1.2.3.4", syntax, head, total)
        assert header.study_uid
        assert "\0" not in "".join(header.values.values())


@pytest.mark.corpus
def test_every_file_of_the_corpus_is_read_and_has_the_uids_that_a_row_needs() -> None:
    corpus = Path(os.environ.get("PACSD_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
    n_read = 0
    for path in sorted(corpus.rglob("*.dcm")):
        if path.stat().st_size:
            header, meta = read_file_header(str(path))
            n_read += 1
            assert 0 < len(header.study_uid) <= 64, path.name
            assert header.series_uid, path.name
            assert header.sop_instance_uid, path.name
            assert meta.transfer_syntax_uid, path.name
    assert n_read > 100
