from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset

from pacsd.dicom.wire.implementation import IMPLEMENTATION_CLASS_UID
from pacsd.dicom.wire.part10 import Part10Error, decode_file_meta, encode_file_meta

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
META = encode_file_meta(CT, "1.2.3", EXPLICIT, "CT1")
ELEMENT = b"\x08\0\x60\0CS\2\0CT"


def test_what_is_written_is_read_back() -> None:
    meta = decode_file_meta(META + ELEMENT)
    assert (meta.sop_class, meta.sop_instance, meta.transfer_syntax, meta.source_ae) == (
        CT,
        "1.2.3",
        EXPLICIT,
        "CT1",
    )
    assert meta.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert meta.implementation_version == "PACSD"
    assert meta.dataset_offset == len(META)
    assert not meta.is_guessed


def test_pydicom_reads_our_file() -> None:
    read = pydicom.dcmread(io.BytesIO(META + ELEMENT))
    assert read.Modality == "CT"
    assert isinstance(read.file_meta, FileMetaDataset)
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert read.file_meta.FileMetaInformationGroupLength == len(META) - 144
    assert read.file_meta.SourceApplicationEntityTitle == "CT1"


def test_the_same_object_gives_the_same_head() -> None:
    assert encode_file_meta(CT, "1.2.3", EXPLICIT, "CT1") == META


def test_a_file_that_ends_with_its_meta_has_an_empty_data_set() -> None:
    assert decode_file_meta(META).dataset_offset == len(META)


@pytest.mark.parametrize(
    ("head", "offset"),
    [
        (b"II*\0".ljust(128, b"\xff") + META[128:] + ELEMENT, len(META)),
        (META[128:] + ELEMENT, len(META) - 128),
        (META[132:] + ELEMENT, len(META) - 132),
        (META[:140] + b"\xff\xff\0\0" + META[144:] + ELEMENT, len(META)),
        (META[:132] + META[144:] + ELEMENT, len(META) - 12),
    ],
    ids=["TIFF preamble", "no preamble", "no DICM", "wrong group length", "no group length"],
)
def test_heads_of_odd_files_are_read(head: bytes, offset: int) -> None:
    meta = decode_file_meta(head)
    assert (meta.transfer_syntax, meta.dataset_offset) == (EXPLICIT, offset)
    assert head[meta.dataset_offset :] == ELEMENT


def test_a_meta_in_implicit_vr_is_read() -> None:
    uid = IMPLICIT.encode() + b"\0"
    head = b"DICM\2\0\x10\0" + len(uid).to_bytes(4, "little") + uid + b"\x08\0\x60\0\2\0\0\0CT"
    assert decode_file_meta(head).transfer_syntax == IMPLICIT


@pytest.mark.parametrize(
    ("dataset", "syntax"),
    [
        (ELEMENT, EXPLICIT),
        (b"\0\x08\0\x60CS\0\2CT", BIG),
        (b"\x08\0\x60\0\2\0\0\0CT", IMPLICIT),
    ],
)
def test_without_a_meta_the_encoding_is_guessed(dataset: bytes, syntax: str) -> None:
    meta = decode_file_meta(dataset)
    assert (meta.transfer_syntax, meta.dataset_offset, meta.is_guessed) == (syntax, 0, True)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "no_meta.dcm", "ExplVR_BigEnd.dcm"]
)
def test_real_files_give_what_pydicom_finds(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    theirs = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    meta = decode_file_meta(Path(path).read_bytes())
    uid = theirs.file_meta.get("TransferSyntaxUID", None)
    assert meta.is_guessed == (uid is None)
    if uid is not None:
        assert meta.transfer_syntax == uid


@pytest.mark.parametrize("head", [b"", b"\0" * 4, META[:200], META[:132], b"DICM\2\0\2\1OB\0\0\xff\xff\xff\xff"])
def test_a_head_that_ends_too_early_is_an_error(head: bytes) -> None:
    with pytest.raises(Part10Error):
        decode_file_meta(head)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_are_a_part10_error(tail: bytes) -> None:
    try:
        meta = decode_file_meta(b"DICM\2\0" + tail)
    except Part10Error:
        return
    assert meta.dataset_offset <= len(tail) + 6
