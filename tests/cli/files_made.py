"""Files to import, and what a pool holds afterwards."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pydicom.data

from pacsd.storage.reader import FileReader
from tests.storage.conftest import dataset, file_meta

SAMPLES = Path(pydicom.data.__file__).parent / "test_files"
KINDS = (
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "rtdose.dcm",
    "image_dfl.dcm",
    "JPEG2000.dcm",
    "SC_rgb_rle_2frame.dcm",
    "rtplan.dcm",
    "reportsi.dcm",
    "no_meta_group_length.dcm",
    "ExplVR_LitEndNoMeta.dcm",
)
"""pydicom's files of different transfer syntaxes and oddities; the last one has no file meta."""


def samples(folder: Path) -> list[Path]:
    """Copies of some of pydicom's files."""
    folder.mkdir()
    return [Path(shutil.copy(SAMPLES / name, folder)) for name in KINDS]


def medium(folder: Path) -> Path:
    """A CD's files, with a DICOMDIR that lists them; 31 images."""
    others = shutil.ignore_patterns("DICOMDIR-*", "README*", "TINY_ALPHA")
    return Path(shutil.copytree(SAMPLES / "dicomdirtests", folder, ignore=others))


def made(folder: Path, n: int, n_pixel_bytes: int = 20_000) -> list[Path]:
    """Small objects with UIDs of their own."""
    folder.mkdir(parents=True)
    files = [folder / f"{number:04}" for number in range(1, n + 1)]
    for number, file in enumerate(files, 1):
        file.write_bytes(file_meta(f"1.2.{number}") + dataset(f"1.2.{number}", n_pixel_bytes))
    return files


def pool_files(state: Path) -> list[Path]:
    """Sealed files of a site's pool."""
    return sorted((state / "images" / "objects").rglob("*.dcm"))


def journal(state: Path) -> list[Path]:
    """Journal files of a site's pool: directories that recovery would look at."""
    return sorted((state / "images" / "journal").iterdir())


def dataset_bytes(file: Path) -> bytes:
    """All that follows the file meta."""
    with FileReader(str(file)) as reader:
        return file.read_bytes()[reader.dataset_offset :]


def dataset_digests(files: list[Path]) -> set[bytes]:
    """SHA-256 of each data set."""
    return {hashlib.sha256(dataset_bytes(file)).digest() for file in files}
