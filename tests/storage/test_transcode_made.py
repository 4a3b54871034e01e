"""Conversion of made objects: what published files lack, hostile ones, and the other promises."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import pixel_array
from pydicom.uid import CTImageStorage

from pacsd.model.errors import CannotConvert
from pacsd.model.syntax import (
    DEFLATED_EXPLICIT_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    GE_IMPLICIT_BIG_PIXELS,
    IMPLICIT_LITTLE,
)
from pacsd.storage.transcode import RLE_LOSSLESS, ROUTES, convert, targets
from pacsd.storage.transcode_file import read_meta
from pacsd.storage.transcode_sink import file_meta
from pacsd.storage.transcode_walk import Source

ROOT = Path(__file__).resolve().parents[2]
CT_SMALL = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
JPEG = "1.2.840.10008.1.2.4."

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.dcm"


def dataset_bytes(path: Path | str) -> bytes:
    with Path(path).open("rb") as file:
        _meta, start = read_meta(Source(file.fileno()))
    return Path(path).read_bytes()[start:]


def pixels_of(path: Path) -> np.ndarray:
    return pixel_array(pydicom.dcmread(path), raw=True)


def image(pixels: np.ndarray, photometric: str = "MONOCHROME2", **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    dataset.SamplesPerPixel = 3 if photometric != "MONOCHROME2" else 1
    dataset.PhotometricInterpretation = photometric
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def write(path: Path, dataset: Dataset, uid: str) -> str:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4"
    body = BytesIO()
    if uid == DEFLATED_EXPLICIT_LITTLE:
        FileDataset(body, dataset, file_meta=meta, preamble=bytes(128)).save_as(body, enforce_file_format=True)
        path.write_bytes(body.getvalue())
        return str(path)
    pydicom.dcmwrite(body, dataset, implicit_vr=uid == IMPLICIT_LITTLE, little_endian=True)
    own_meta = file_meta([(0x00020002, "UI", b"1.2"), (0x00020003, "UI", b"1.2.3.4\0")], uid)
    path.write_bytes(own_meta + body.getvalue())
    return str(path)


def compressed(path: Path, uid: str, dataset: Dataset, frames: list[bytes]) -> str:
    dataset.PixelData = encapsulate(frames) if all(frames) else encapsulate([b"xx"])[:8] + bytes(8)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return write(path, dataset, uid)


RGB = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
GREY16 = np.random.default_rng(2).integers(0, 65536, (20, 30), np.uint16)


@pytest.mark.parametrize(
    ("suffix", "pixels", "frame"),
    [
        ("110", RGB, imagecodecs.jpegxl_encode(RGB, lossless=True)),
        ("110", GREY16, imagecodecs.jpegxl_encode(GREY16, lossless=True)),
        ("201", GREY16, imagecodecs.htj2k_encode(GREY16, reversible=True)),
        ("202", RGB, imagecodecs.htj2k_encode(RGB, reversible=True)),
        ("57", GREY16, imagecodecs.jpeg8_encode(GREY16, lossless=True, predictor=6, bitspersample=16)),
        ("90", RGB, imagecodecs.jpeg2k_encode(RGB, reversible=True, codecformat="jp2")),
    ],
)
def test_lossless_streams_that_the_corpus_lacks_decode_bit_exact(
    suffix: str, pixels: np.ndarray, frame: bytes, tmp_path: Path, out: Path
) -> None:
    photometric = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    stored = compressed(tmp_path / "stored", JPEG + suffix, image(pixels, photometric), [frame])
    convert(stored, EXPLICIT_LITTLE, str(out))
    assert np.array_equal(pixels_of(out), pixels)


def test_lossless_ybr_full_stays_ybr_full(tmp_path: Path, out: Path) -> None:
    frame = imagecodecs.jpegls_encode(RGB)
    convert(compressed(tmp_path / "s", JPEG + "80", image(RGB, "YBR_FULL"), [frame]), EXPLICIT_LITTLE, str(out))
    assert pydicom.dcmread(out).PhotometricInterpretation == "YBR_FULL"
    assert np.array_equal(pixels_of(out), RGB)


@pytest.mark.parametrize(("allocated", "stored"), [(16, 12), (8, 7), (32, 20)])
def test_the_sign_fills_the_bits_above_those_stored(allocated: int, stored: int, tmp_path: Path, out: Path) -> None:
    values = np.array([[-(1 << stored - 1), -1], [0, (1 << stored - 1) - 1]])
    bits = (values & ((1 << stored) - 1)).astype(f"u{allocated // 8}")
    attributes = {"PixelRepresentation": 1, "BitsStored": stored, "HighBit": stored - 1}
    if allocated == 32:
        frame, uid = (
            imagecodecs.jpeg2k_encode(bits, reversible=True, bitspersample=20, codecformat="j2k"),
            "90",
        )
    else:
        frame, uid = imagecodecs.jpegls_encode(bits) if allocated == 8 else LOSSLESS_12(bits), "70"
        uid = "80" if allocated == 8 else uid
    convert(compressed(tmp_path / "s", JPEG + uid, image(bits, **attributes), [frame]), EXPLICIT_LITTLE, str(out))
    samples = np.frombuffer(pydicom.dcmread(out).PixelData, f"<i{allocated // 8}").reshape(2, 2)
    expected = values if allocated != 8 else bits.astype("i1")
    assert np.array_equal(samples, expected)


def LOSSLESS_12(bits: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(bits, lossless=True, predictor=1, bitspersample=12)


def test_frames_found_by_an_extended_offset_table_lose_the_table(tmp_path: Path, out: Path) -> None:
    frames = [imagecodecs.jpegls_encode(GREY16 + n) for n in range(3)]
    dataset = image(GREY16, NumberOfFrames=3)
    data, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    dataset.PixelData = data
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    convert(write(tmp_path / "s", dataset, JPEG + "80"), EXPLICIT_LITTLE, str(out))
    assert "ExtendedOffsetTable" not in pydicom.dcmread(out)
    assert np.array_equal(pixels_of(out), np.stack([GREY16 + n for n in range(3)]))


def test_an_icon_compressed_inside_a_sequence_is_decoded_with_its_own_attributes(tmp_path: Path, out: Path) -> None:
    icon = image(RGB, "YBR_FULL_422")
    icon.PixelData = encapsulate([imagecodecs.jpeg8_encode(RGB, level=95)])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    dataset = image(GREY16[:, :, None].repeat(3, 2).astype("u1"), "RGB")
    dataset.IconImageSequence = [icon]
    frame = imagecodecs.jpeg8_encode(RGB, level=95, colorspace="RGB", outcolorspace="RGB")
    convert(compressed(tmp_path / "s", JPEG + "50", dataset, [frame]), EXPLICIT_LITTLE, str(out))
    decoded = pydicom.dcmread(out).IconImageSequence[0]
    assert decoded.PhotometricInterpretation == "RGB"
    assert len(decoded.PixelData) == RGB.size


def test_conversion_changes_neither_identity_nor_what_is_said_of_losses(tmp_path: Path, out: Path) -> None:
    dataset = image(RGB, "YBR_FULL_422", LossyImageCompression="01", ICCProfile=b"profile!")
    frame = imagecodecs.jpeg8_encode(RGB, level=90)
    convert(compressed(tmp_path / "s", JPEG + "50", dataset, [frame]), EXPLICIT_LITTLE, str(out))
    converted = pydicom.dcmread(out)
    assert converted.SOPInstanceUID == "1.2.3.4"
    assert converted.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert converted.LossyImageCompression == "01"
    assert converted.ICCProfile == b"profile!"


def test_the_dataset_starts_at_the_offset_told(out: Path) -> None:
    done = convert(str(CT_SMALL), IMPLICIT_LITTLE, str(out))
    assert out.read_bytes()[done.dataset_offset :] == dataset_bytes(out)


def test_unknown_elements_keep_their_bytes_over_big_endian(tmp_path: Path, out: Path) -> None:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.add_new(0x00091010, "UN", b"\x01\x02\x03\x04")
    dataset.add_new(0x00091011, "OL", struct.pack("<2I", 1, 2))
    dataset.add_new(0x00091012, "FD", 1.5)
    dataset.add_new(0x00091013, "AT", 0x00100020)
    convert(write(tmp_path / "s", dataset, EXPLICIT_LITTLE), EXPLICIT_BIG, str(out))
    converted = pydicom.dcmread(out)
    assert converted[0x00091010].value == b"\x01\x02\x03\x04"
    assert converted[0x00091011].value == struct.pack(">2I", 1, 2)
    assert converted[0x00091012].value == 1.5
    assert converted[0x00091013].value == 0x00100020


def test_a_value_too_long_for_its_vr_becomes_un(tmp_path: Path, out: Path) -> None:
    dataset = Dataset()
    dataset.add_new(0x0008103E, "LO", "x" * 70_000)
    convert(write(tmp_path / "s", dataset, IMPLICIT_LITTLE), EXPLICIT_LITTLE, str(out))
    element = dataset_bytes(out)
    assert element[:12] == struct.pack("<HH2sHI", 0x0008, 0x103E, b"UN", 0, 70_000)


def test_a_sequence_hidden_in_un_of_undefined_length_becomes_a_sequence(tmp_path: Path, out: Path) -> None:
    inner = struct.pack("<HHI", 0x0010, 0x0020, 2) + b"ID"
    hidden = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF)
    hidden += struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path = Path(write(tmp_path / "s", Dataset(), EXPLICIT_LITTLE))
    path.write_bytes(path.read_bytes() + hidden)
    convert(str(path), EXPLICIT_BIG, str(out))
    assert pydicom.dcmread(out)[0x00091001].value[0].PatientID == "ID"


@pytest.mark.parametrize("depth", [1_200, 30_000])
@pytest.mark.parametrize("defined", [True, False])
def test_deep_nesting_is_converted_without_recursion(depth: int, *, defined: bool, tmp_path: Path, out: Path) -> None:
    inner = b""
    for _ in range(depth):
        length = (len(inner) + 8, len(inner)) if defined else (0xFFFFFFFF,) * 2
        close = b"" if defined else struct.pack("<4H", 0xFFFE, 0xE00D, 0, 0) + struct.pack("<4H", 0xFFFE, 0xE0DD, 0, 0)
        head = struct.pack("<HHIHHI", 0x0040, 0xA730, length[0], 0xFFFE, 0xE000, length[1])
        inner = head + inner + close
        if depth > 2_000 and len(inner) > 800_000:
            break
    path = Path(write(tmp_path / "s", Dataset(), IMPLICIT_LITTLE))
    path.write_bytes(path.read_bytes() + inner)
    convert(str(path), EXPLICIT_LITTLE, str(out))
    assert dataset_bytes(out).count(b"\x40\x00\x30\xa7SQ") > 1_000


def test_endless_nesting_is_refused(tmp_path: Path, out: Path) -> None:
    path = Path(write(tmp_path / "s", Dataset(), IMPLICIT_LITTLE))
    level = struct.pack("<HHIHHI", 0x0040, 0xA730, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    path.write_bytes(path.read_bytes() + level * 60_000)
    with pytest.raises(CannotConvert, match="deep"):
        convert(str(path), EXPLICIT_LITTLE, str(out))


def truncated(frame: bytes) -> bytes:
    return frame[: len(frame) // 2 & ~1]


BROKEN_FRAMES = {
    "half a JPEG": ("50", truncated(imagecodecs.jpeg8_encode(RGB))),
    "half a JPEG 2000": ("90", truncated(imagecodecs.jpeg2k_encode(RGB, reversible=True, codecformat="j2k"))),
    "half a JPEG-LS": ("80", truncated(imagecodecs.jpegls_encode(RGB))),
    "noise": ("50", bytes(range(200))),
    "another size": ("80", imagecodecs.jpegls_encode(RGB[:10])),
    "grey in a colour image": ("80", imagecodecs.jpegls_encode(RGB[:, :, 0].copy())),
    "nothing": ("80", b""),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_broken_streams_are_refused_not_guessed(name: str, tmp_path: Path, out: Path) -> None:
    suffix, frame = BROKEN_FRAMES[name]
    dataset = image(RGB, "RGB", PatientName="Doe^Jane", PatientID="4711")
    stored = compressed(tmp_path / "s", JPEG + suffix, dataset, [frame])
    with pytest.raises(CannotConvert) as caught:
        convert(stored, EXPLICIT_LITTLE, str(out))
    assert "Doe" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert not out.exists()


def test_too_few_frames_are_refused(tmp_path: Path, out: Path) -> None:
    frames = [imagecodecs.jpegls_encode(GREY16)] * 2
    stored = compressed(tmp_path / "s", JPEG + "80", image(GREY16, NumberOfFrames=3), frames)
    with pytest.raises(CannotConvert, match="frames"):
        convert(stored, EXPLICIT_LITTLE, str(out))


def test_a_deflated_dataset_that_is_broken_is_refused(tmp_path: Path, out: Path) -> None:
    path = Path(write(tmp_path / "s", image(GREY16), DEFLATED_EXPLICIT_LITTLE))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CannotConvert, match="deflated"):
        convert(str(path), EXPLICIT_LITTLE, str(out))


def test_a_deflated_dataset_has_even_length_and_inflates(out: Path) -> None:
    done = convert(str(CT_SMALL), DEFLATED_EXPLICIT_LITTLE, str(out))
    deflated = out.read_bytes()[done.dataset_offset :]
    assert len(deflated) % 2 == 0
    assert zlib.decompress(deflated, -15)[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


@pytest.mark.parametrize("uid", [JPEG + "100", JPEG + "102", JPEG + "107", "1.2.826.0.1.999", JPEG + "94", JPEG + "52"])
def test_video_and_unknown_syntaxes_have_no_targets(uid: str, tmp_path: Path, out: Path) -> None:
    assert targets(uid) == ()
    with pytest.raises(CannotConvert, match="no way"):
        convert(compressed(tmp_path / "s", uid, image(RGB, "RGB"), [b"abcd"]), EXPLICIT_LITTLE, str(out))


def test_targets_prefer_explicit_little_endian_and_never_name_the_stored_syntax() -> None:
    assert targets(JPEG + "70") == (
        EXPLICIT_LITTLE,
        IMPLICIT_LITTLE,
        EXPLICIT_BIG,
        DEFLATED_EXPLICIT_LITTLE,
        RLE_LOSSLESS,
    )
    assert targets(EXPLICIT_LITTLE)[0] == IMPLICIT_LITTLE
    assert [uid for uid in ROUTES if uid in targets(uid)] == []


def test_asking_for_targets_imports_no_codec() -> None:
    code = (
        "import sys; from pacsd.storage.transcode import convert, targets; targets('1.2.840.10008.1.2.4.50'); "
        "print({'numpy', 'pydicom', 'imagecodecs', 'rle'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.strip() == "set()"


MEMORY_SCRIPT = """
import resource, sys
from pacsd.storage.transcode import convert
import pacsd.storage.transcode_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[1], sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("target", [EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_memory_follows_the_frame_not_the_object(target: str, tmp_path: Path, out: Path) -> None:
    plane = np.zeros((1024, 1024), np.uint16)
    frames = [imagecodecs.jpegls_encode(plane)] * 60
    stored = compressed(tmp_path / "s", JPEG + "80", image(plane, NumberOfFrames=60), frames)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, stored, target, str(out)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert out.stat().st_size > 120 << 20
    assert int(ran.stdout) < 40 << 10, "KiB beyond the imports"


@pytest.mark.parametrize("target", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_pixels_of_the_private_ge_syntax_are_turned_round(target: str, tmp_path: Path, out: Path) -> None:
    dataset = image(GREY16)
    dataset.PixelData = GREY16.byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    path = Path(write(tmp_path / "s", dataset, IMPLICIT_LITTLE))
    path.write_bytes(file_meta([], GE_IMPLICIT_BIG_PIXELS) + dataset_bytes(path))
    convert(str(path), target, str(out))
    assert np.array_equal(pixels_of(out), GREY16)


@pytest.mark.parametrize("target", [EXPLICIT_BIG])
def test_deep_pixels_have_no_big_endian_form(target: str, tmp_path: Path, out: Path) -> None:
    dataset = image(np.zeros((2, 2), np.uint32))
    dataset.PixelData = bytes(16)
    dataset["PixelData"].VR = "OW"
    with pytest.raises(CannotConvert, match="16 bits"):
        convert(write(tmp_path / "s", dataset, EXPLICIT_LITTLE), target, str(out))
