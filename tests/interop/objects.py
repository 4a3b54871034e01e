"""DICOM objects as they travel: published files cut into what a C-STORE carries, and made ones."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from tests.conftest import CORPUS

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR = "1.2.840.10008.1.3.10"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
_LONG = (b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF", b"OD", b"OL", b"UC", b"UR", b"OV", b"SV", b"UV")


@dataclass(frozen=True, slots=True)
class WireObject:
    """What one C-STORE carries; `data` is the data set, byte by byte."""

    name: str
    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes

    def write_file(self, path: Path) -> Path:
        """Write it as a Part 10 file with these very bytes."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = self.sop_class
        meta.MediaStorageSOPInstanceUID = self.sop_instance
        meta.TransferSyntaxUID = self.syntax
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, FileDataset(None, {}, file_meta=meta), enforce_file_format=True)
        head = buffer.getvalue()
        path.write_bytes(head[: 128 + 4 + _meta_length(head, 132)] + self.data)
        return path


def read_wire_object(path: Path) -> WireObject:
    """Cut a file into what a sender would send; what it lacks is made up from its bytes, the same each time.

    A DICOMDIR's class is one of media, not of the network (PS3.4 Annex I), so it travels as another one.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    start = next((at + 4 for at in (128, 0) if raw[at : at + 4] == b"DICM"), 0)
    length = _meta_length(raw, start)
    meta = _meta_values(raw[start : start + length])
    data = raw[start + length :]
    found = _identity(data, meta.get(0x0010) or "")
    made_up = f"2.25.{int.from_bytes(hashlib.sha256(raw).digest()[:15])}"
    sop_class = meta.get(0x0002) or found[0] or SECONDARY_CAPTURE
    return WireObject(
        str(path.name),
        SECONDARY_CAPTURE if sop_class == DICOMDIR else sop_class,
        meta.get(0x0003) or found[1] or made_up,
        meta.get(0x0010) or _guessed_syntax(data),
        data,
    )


def _meta_length(raw: bytes, start: int) -> int:
    """The bytes of the file meta elements, by walking them: their group length may be wrong."""
    at = start
    while raw[at : at + 2] == b"\2\0" and len(raw) >= at + 12:
        if raw[at + 4 : at + 6] in _LONG:
            at += 12 + struct.unpack_from("<L", raw, at + 8)[0]
        else:
            at += 8 + struct.unpack_from("<H", raw, at + 6)[0]
    return at - start


def _meta_values(meta: bytes) -> dict[int, str]:
    found, at = {}, 0
    while at + 8 <= len(meta):
        number = struct.unpack_from("<H", meta, at + 2)[0]
        if meta[at + 4 : at + 6] in _LONG:
            at += 12 + struct.unpack_from("<L", meta, at + 8)[0]
            continue
        length = struct.unpack_from("<H", meta, at + 6)[0]
        found[number] = meta[at + 8 : at + 8 + length].decode("latin-1").strip(" \0")
        at += 8 + length
    return found


def _guessed_syntax(data: bytes) -> str:
    if data[:1] == b"\0" and data[1:2]:
        return BIG
    return EXPLICIT if data[4:6].isalpha() and data[4:6].isupper() else IMPLICIT


def _identity(data: bytes, syntax: str) -> tuple[str, str]:
    """SOP class and instance UID of a data set, '' for what pydicom doesn't find."""
    syntax = syntax or _guessed_syntax(data)
    try:
        plain = zlib.decompress(data, -15) if syntax == DEFLATED else data
        found = pydicom.filereader.read_dataset(
            BytesIO(plain), syntax == IMPLICIT, syntax != BIG, stop_when=lambda tag, vr, length: tag > 0x00080018
        )
        return str(found.get("SOPClassUID") or ""), str(found.get("SOPInstanceUID") or "")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, its sender has to name it
        return "", ""


def published_files() -> list[Path]:
    """Give pydicom's own files and, where it is there, the open test corpus."""
    ours = sorted(Path(pydicom.__file__).with_name("data").glob("test_files/**/*.dcm"))
    folders = (CORPUS / "dicom", CORPUS / "derived")
    return ours + sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def nested(levels: int) -> bytes:
    """A data set, explicit little endian, of sequences inside one another, with undefined lengths."""
    opening = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * levels + closing * levels


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element, explicit little endian, its length as it is: odd lengths stay odd."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<xxL", len(value)) if vr in _LONG else struct.pack("<H", len(value))) + value


def made(name: str, elements: Iterable[tuple[int, bytes, bytes]], *, sop_class: str = CT) -> WireObject:
    """An object of exactly these elements; its UIDs are in the request, and in the data set only if given."""
    data = b"".join(element(*item) for item in elements)
    return WireObject(name, sop_class, generate_uid(entropy_srcs=[name]), EXPLICIT, data)


@dataclass(frozen=True, slots=True)
class Study:
    """A made study; its pixel values differ from image to image."""

    patient_id: str
    uid: str
    images: tuple[FileDataset, ...]

    @property
    def series(self) -> list[str]:
        return list(dict.fromkeys(str(image.SeriesInstanceUID) for image in self.images))

    @property
    def instances(self) -> list[str]:
        return [str(image.SOPInstanceUID) for image in self.images]

    def files(self, folder: Path) -> list[Path]:
        """Write all images into a folder."""
        paths = [folder / f"{number:04}.dcm" for number in range(len(self.images))]
        for path, image in zip(paths, self.images, strict=True):
            image.save_as(path, enforce_file_format=True)
        return paths


def make_study(
    patient_id: str,
    n_images: int = 4,
    *,
    n_series: int = 1,
    sop_class: str = CT,
    modality: str = "CT",
    syntax: str = EXPLICIT,
    side: int = 16,
    **attributes: object,
) -> Study:
    """Make a study of small images; further attributes go into every image."""
    uid = generate_uid()
    images = tuple(_images(patient_id, uid, n_images, n_series, sop_class, modality, syntax, side, attributes))
    return Study(patient_id, uid, images)


def _images(
    patient_id: str,
    study_uid: str,
    n_images: int,
    n_series: int,
    sop_class: str,
    modality: str,
    syntax: str,
    side: int,
    attributes: dict[str, object],
) -> Iterator[FileDataset]:
    series = [generate_uid() for _ in range(n_series)]
    for number in range(n_images):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = sop_class
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if syntax == IMPLICIT else ExplicitVRLittleEndian
        image = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        image.SOPClassUID, image.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series[number % n_series]
        image.PatientID, image.PatientName = patient_id, f"Test^{patient_id}"
        image.PatientBirthDate, image.PatientSex = "19700101", "O"
        image.StudyDate, image.StudyTime, image.StudyID = "20240229", "101112", "1"
        image.AccessionNumber, image.Modality = f"A{patient_id}"[:16], modality
        image.SeriesNumber, image.InstanceNumber = number % n_series + 1, number + 1
        _set_pixels(image, number, side)
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        yield image


def _set_pixels(image: Dataset, number: int, side: int) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = side
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    values = (np.arange(side * side, dtype="<u2") * 7 + number * 131) & 0x0FFF
    image.PixelData = values.tobytes()
    image["PixelData"].VR = "OW"


def wire_objects(study: Study) -> list[WireObject]:
    """A made study as it travels."""
    found = []
    for image in study.images:
        buffer = BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        raw = buffer.getvalue()
        meta = image.file_meta
        data = raw[132 + _meta_length(raw, 132) :]
        uid = str(meta.MediaStorageSOPInstanceUID)
        found.append(WireObject(uid, str(meta.MediaStorageSOPClassUID), uid, str(meta.TransferSyntaxUID), data))
    return found
