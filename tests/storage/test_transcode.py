"""Converted objects say the same as the stored ones: compared with pydicom, OpenJPEG and DCMTK."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import openjpeg
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from pacsd.model.errors import CannotConvert
from pacsd.model.syntax import (
    DEFLATED_EXPLICIT_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    GE_IMPLICIT_BIG_PIXELS,
    IMPLICIT_LITTLE,
)
from pacsd.storage.transcode import RLE_LOSSLESS, convert, targets
from pacsd.storage.transcode_file import read_meta
from pacsd.storage.transcode_walk import Source

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(os.environ.get("PACSD_CORPUS", ROOT.parent / "shared" / "corpus"))
OWN_FILES = Path(pydicom.data.__file__).parent / "test_files"
JPEG = "1.2.840.10008.1.2.4."
NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_EXPLICIT_LITTLE, GE_IMPLICIT_BIG_PIXELS)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# Stored as received, but no syntax other than the stored one can be given for them; why:
INCONVERTIBLE = {
    "truncated-in-last-fragment_SC_rgb_rle_2frame.dcm": "the file ends in the pixel data",
    "truncated-mid-element_CT_small.dcm": "the file ends in the pixel data",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "the file ends in the pixel data",
    "MR_truncated.dcm": "the file ends in the pixel data",
    "rtplan_truncated.dcm": "the file ends in an element",
    "GH626.dcm": "the file ends in an element",
    "DICOMDIR-nooffset": "the file ends in a sequence",
    "rtdose_expb.dcm": "implementations disagree on big endian pixels of more than 16 bits",
    "rtdose_expb_1frame.dcm": "implementations disagree on big endian pixels of more than 16 bits",
    "JPEG2000-embedded-sequence-delimiter.dcm": "the codestream was overwritten by a delimiter, on purpose",
}
# Read by this package and by DCMTK, but not by pydicom.
UNREADABLE_TO_PYDICOM = ("deep-nest-1200.dcm", "FreezePattern.dcm", "GH179A.dcm")
# Pixels that pydicom can't show: a frame count that is no number, GE's syntax, pixel data without a value.
ODD_PIXELS = ("badVR.dcm", "private-ts_ge-1.2.840.113619.5.2_implicit.dcm", "GH1146.dcm")
# Pixel data that another file of the same set holds uncompressed.
TWINS = {
    "sm_image_jpegls.dcm": "sm_image.dcm",
    "sm_image_jpegls_nobot.dcm": "sm_image.dcm",
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "MR_small_bigendian.dcm": "MR_small.dcm",
    "emri_small_RLE.dcm": "emri_small_big_endian.dcm",
    "emri_small_jpeg_2k_lossless.dcm": "emri_small_big_endian.dcm",
    "emri_small_jpeg_ls_lossless.dcm": "emri_small_big_endian.dcm",
    "liver_deflate.dcm": "liver.dcm",
    "liver_j2k.dcm": "liver.dcm",
    "liver_rle.dcm": "liver.dcm",
    "liver_nonbyte_aligned_deflate.dcm": "liver_nonbyte_aligned.dcm",
    "liver_nonbyte_aligned_j2k.dcm": "liver_nonbyte_aligned.dcm",
    "liver_nonbyte_aligned_rle.dcm": "liver_nonbyte_aligned.dcm",
    "OBXXXX1A_rle.dcm": "OBXXXX1A.dcm",
    "SC_rgb_rle.dcm": "SC_rgb.dcm",
    "SC_rgb_rle_2frame.dcm": "SC_rgb_2frame.dcm",
    "SC_rgb_jpeg_gdcm.dcm": "SC_rgb.dcm",
    "rtdose_rle.dcm": "rtdose.dcm",
    "rtdose_rle_1frame.dcm": "rtdose_1frame.dcm",
    "TestPattern_JPEG-LS-Lossless.dcm": "TestPattern_RGB.dcm",
    "TestPattern_JPEG-Lossless_RGB.dcm": "TestPattern_RGB.dcm",
    **{
        f"CTImage.dcm_{name}.dcm": "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm"
        for name in (
            "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
            "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
            "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
            "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
            "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
            "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
        )
    },
}


def syntax_of(path: Path) -> str | None:
    """Return the transfer syntax of a Part 10 file, None where there is none."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    return pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")


def stored_files() -> dict[Path, str]:
    """All Part 10 files of pydicom's package and of the corpus, one of each name, with their syntaxes."""
    roots = [OWN_FILES, CORPUS / "derived", CORPUS / "dicom"]
    found = {p.name: p for root in roots if root.is_dir() for p in sorted(root.rglob("*")) if p.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {path: uid for path in found.values() if (uid := syntax_of(path))}


FILES = stored_files()
BY_NAME = {path.name: path for path in FILES}
CONVERTIBLE = {path: uid for path, uid in FILES.items() if path.name not in INCONVERTIBLE}
COMPRESSED = [path for path, uid in CONVERTIBLE.items() if uid not in NATIVE]
UNCOMPRESSED = [path for path, uid in CONVERTIBLE.items() if uid in NATIVE]


def pixel_attributes(path: Path) -> Dataset:
    """What pydicom reads of the pixels' description; empty for what it can't read at all."""
    if path.name in UNREADABLE_TO_PYDICOM:
        return Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, specific_tags=["BitsAllocated", "Rows", "PixelData"])


def has_pixels(path: Path) -> bool:
    """Whether pydicom can show the pixels: described, and as long as they should be."""
    attributes = pixel_attributes(path)
    return "PixelData" in attributes and "Rows" in attributes and path.name not in ODD_PIXELS


def pixels_of(path: Path) -> np.ndarray:
    return pixel_array(pydicom.dcmread(path), raw=True)


def native_targets(path: Path) -> list[str]:
    """Uncompressed syntaxes that the object can become; 32 bit pixels have no big endian form."""
    deep = (pixel_attributes(path).get("BitsAllocated") or 0) > 16
    refused = (RLE_LOSSLESS, EXPLICIT_BIG) if deep else (RLE_LOSSLESS,)
    return [uid for uid in targets(FILES[path]) if uid not in refused]


def by_name(path: Path) -> str:
    return path.name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.dcm"


def dataset_bytes(path: Path | str) -> bytes:
    with Path(path).open("rb") as file:
        _meta, start = read_meta(Source(file.fileno()))
    return Path(path).read_bytes()[start:]


def assert_same_elements(stored: Dataset, converted: Dataset, *, ignored: frozenset[int] = frozenset()) -> None:
    """Compare two data sets, the way down through all sequences, VRs apart: implicit VR has none to keep."""
    kept = [e.tag for e in stored if e.tag.element != 0 and e.tag not in ignored]
    assert [tag for tag in kept if tag not in converted] == []
    assert [e.tag for e in converted if e.tag not in stored] == []
    for tag in kept:
        before, after = stored[tag], converted[tag]
        if before.VR == "SQ" and after.VR == "SQ":
            assert len(before.value) == len(after.value)
            for item_before, item_after in zip(before.value, after.value, strict=True):
                assert_same_elements(item_before, item_after)
        elif before.VR == after.VR:
            assert repr(before.value) == repr(after.value), f"{tag} changed"


# The value of a word-sized VR looks otherwise in the other byte order: it's compared by converting back.
WORDS = frozenset(("OW", "OF", "OL", "OD", "OV"))


@pytest.mark.parametrize("path", UNCOMPRESSED, ids=by_name)
def test_uncompressed_objects_keep_every_element(path: Path, out: Path) -> None:
    stored_uid = FILES[path]
    stored = None if path.name in UNREADABLE_TO_PYDICOM else pydicom.dcmread(path)
    for target in native_targets(path):
        done = convert(str(path), target, str(out))
        assert done.size_bytes == out.stat().st_size
        assert pydicom.filereader.read_file_meta_info(out).TransferSyntaxUID == target == done.transfer_syntax
        if stored is None or EXPLICIT_BIG in (target, stored_uid) or stored_uid == GE_IMPLICIT_BIG_PIXELS:
            continue
        assert_same_elements(stored, pydicom.dcmread(out))


@pytest.mark.parametrize("path", UNCOMPRESSED, ids=by_name)
def test_round_trips_over_each_uncompressed_syntax_return_the_same_bytes(path: Path, tmp_path: Path) -> None:
    explicit, other, back = (str(tmp_path / name) for name in ("explicit", "other", "back"))
    if FILES[path] == EXPLICIT_LITTLE:
        convert(str(path), DEFLATED_EXPLICIT_LITTLE, other)
        convert(other, EXPLICIT_LITTLE, explicit)
    else:
        convert(str(path), EXPLICIT_LITTLE, explicit)
    possible = {*native_targets(path), FILES[path]}
    for between in possible & {EXPLICIT_BIG, DEFLATED_EXPLICIT_LITTLE}:
        convert(explicit, between, other)
        convert(other, EXPLICIT_LITTLE, back)
        assert dataset_bytes(back) == dataset_bytes(explicit)
    convert(explicit, IMPLICIT_LITTLE, other)
    implicit = dataset_bytes(other)
    for between in possible & {EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_EXPLICIT_LITTLE}:
        convert(other, between, back)
        convert(back, IMPLICIT_LITTLE, explicit)
        assert dataset_bytes(explicit) == implicit


@pytest.mark.parametrize("path", [p for p in UNCOMPRESSED if has_pixels(p)], ids=by_name)
def test_byte_order_changes_keep_the_pixels_that_pydicom_reads(path: Path, out: Path) -> None:
    before = pixels_of(path)
    for target in native_targets(path):
        convert(str(path), target, str(out))
        assert np.array_equal(pixels_of(out), before), target


def reference_pixels(path: Path, uid: str, scratch: Path) -> np.ndarray:
    """Decode with something else than what is tested."""
    dataset = pydicom.dcmread(path)
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if uid == RLE_LOSSLESS or uid in (JPEG + "80", JPEG + "81"):
        return pixels_of(path)
    if uid.startswith((JPEG + "9", JPEG + "20")):
        frames = [openjpeg.decode(f) for f in generate_frames(dataset.PixelData, number_of_frames=n_frames)]
        return np.stack(frames) if n_frames > 1 else frames[0]
    if uid.startswith((JPEG + "5", JPEG + "70")):
        if not shutil.which("dcmdjpeg"):
            pytest.skip("DCMTK isn't installed")
        command = ["dcmdjpeg", str(path), str(scratch)]
        if path.name == "SC_rgb_jpeg.dcm":  # implicit VR elements in an explicit data set: DCMTK needs them mended
            command[1] = str(scratch.with_suffix(".mended"))
            list(dataset.iterall())
            dataset.save_as(command[1])
        subprocess.run(command, capture_output=True, check=True)
        return pixels_of(scratch)
    return np.array([])


@pytest.mark.parametrize("path", COMPRESSED, ids=by_name)
def test_decoded_pixels_are_those_of_other_decoders(path: Path, out: Path, tmp_path: Path) -> None:
    done = convert(str(path), EXPLICIT_LITTLE, str(out))
    assert done.lossless
    stored, converted = pydicom.dcmread(path), pydicom.dcmread(out)
    ignored = frozenset((0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00010, 0x00280004, 0x00280006, 0x00880200))
    assert_same_elements(stored, converted, ignored=ignored)
    if "PixelData" not in stored:
        return
    assert (converted.BitsStored, converted.HighBit) == (stored.BitsStored, stored.HighBit)
    assert "ExtendedOffsetTable" not in converted
    if converted.SamplesPerPixel > 1:
        assert converted.PhotometricInterpretation in ("RGB", "YBR_FULL")
        assert converted.PlanarConfiguration == 0
    n_bits = converted.Rows * converted.Columns * converted.SamplesPerPixel * converted.BitsAllocated
    n_bytes = (n_bits * int(converted.get("NumberOfFrames") or 1) + 7) // 8
    assert len(converted.PixelData) == n_bytes + n_bytes % 2
    pixels = pixels_of(out)
    if path.name in TWINS and TWINS[path.name] in BY_NAME:
        return
    if path.name == "J2K_pixelrep_mismatch.dcm":
        unsigned = reference_pixels(path, FILES[path], tmp_path).astype("i4")
        assert np.array_equal(pixels, unsigned - (unsigned >> 12 << 13))
        return
    assert np.array_equal(pixels, reference_pixels(path, FILES[path], tmp_path / "reference.dcm"))


@pytest.mark.parametrize("name", sorted(set(TWINS) & set(BY_NAME)))
def test_lossless_objects_become_their_uncompressed_twin_bit_for_bit(name: str, tmp_path: Path) -> None:
    if TWINS[name] not in BY_NAME:
        pytest.skip("the twin is in the corpus only")
    twin = BY_NAME[TWINS[name]]
    ours, theirs = tmp_path / "ours.dcm", twin
    convert(str(BY_NAME[name]), EXPLICIT_LITTLE, str(ours))
    if FILES[twin] != EXPLICIT_LITTLE:
        theirs = tmp_path / "theirs.dcm"
        convert(str(twin), EXPLICIT_LITTLE, str(theirs))
    assert pydicom.dcmread(ours).PixelData == pydicom.dcmread(theirs).PixelData


@pytest.mark.parametrize("name", sorted(set(INCONVERTIBLE) & set(BY_NAME)))
def test_broken_objects_are_refused_and_leave_nothing_behind(name: str, out: Path) -> None:
    with pytest.raises(CannotConvert):
        convert(str(BY_NAME[name]), targets(FILES[BY_NAME[name]])[0], str(out))
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "rtdose.dcm",
        "MR_small_bigendian.dcm",
        "color-px.dcm",
        "color-pl.dcm",
        "SC_rgb_expb.dcm",
        "GDCMJ2K_TextGBR.dcm",
    ],
)
def test_rle_encoded_frames_decode_to_the_same_pixels(name: str, tmp_path: Path) -> None:
    if name not in BY_NAME:
        pytest.skip("in the corpus only")
    native, encoded = tmp_path / "native", tmp_path / "rle"
    source = BY_NAME[name]
    if FILES[source] == EXPLICIT_LITTLE:
        native = source
    else:
        convert(str(source), EXPLICIT_LITTLE, str(native))
    convert(str(native if FILES[source] == RLE_LOSSLESS else source), RLE_LOSSLESS, str(encoded))
    assert np.array_equal(pixels_of(encoded), pixels_of(native))
