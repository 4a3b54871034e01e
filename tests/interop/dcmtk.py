"""DCMTK's programs against a site."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian

from tests.live import Site, wait_until

LIMIT_S = 60


def call(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its log is on stdout or stderr, as it likes."""
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)


def at(site: Site) -> tuple[object, ...]:
    """The arguments that name a site."""
    return ("-aec", site.ae_title, site.host, site.dicom_port)


def storescu(site: Site, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Options and files; `-v` is given, so the output names each response."""
    return call("storescu", "-v", *at(site), *arguments)


def keys(**wanted: str | None) -> list[str]:
    """`-k` for each attribute, by keyword; None asks for its value."""
    return [part for name, value in wanted.items() for part in ("-k", name if value is None else f"{name}={value}")]


def findscu(site: Site, folder: Path, *arguments: object) -> list[FileDataset]:
    """The answers, read from the files that findscu writes."""
    folder.mkdir(exist_ok=True)
    done = call("findscu", "-v", "-X", "-od", folder, *at(site), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


@contextmanager
def storescp(folder: Path, port: int, *options: object) -> Iterator[Path]:
    """A receiver that writes what it gets, as it gets it, into a folder."""
    folder.mkdir(exist_ok=True)
    command = ["storescp", "-od", folder, "+B", *options, port]
    log = (folder.parent / f"{folder.name}.log").open("wb")
    with log, subprocess.Popen(list(map(str, command)), stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: call("echoscu", "127.0.0.1", port).returncode == 0, 20, "storescp's start")
            yield folder
        finally:
            process.terminate()


def received(folder: Path) -> dict[str, FileDataset]:
    """What lies in a folder, by the SOP Instance UID of its C-STORE."""
    found = [pydicom.dcmread(path) for path in folder.iterdir() if path.is_file()]
    return {str(dataset.file_meta.MediaStorageSOPInstanceUID): dataset for dataset in found}


def syntax_of(path: Path) -> str:
    """The transfer syntax of an image that pydicom can read whole; '' for any other file."""
    try:
        read = pydicom.dcmread(path)
        return str(read.file_meta.TransferSyntaxUID) if "PixelData" in read and "StudyInstanceUID" in read else ""
    except Exception:  # noqa: BLE001 - whatever it is, it's no use as a sample
        return ""


_DECODERS = {
    "1.2.840.10008.1.2.5": ("dcmdrle",),
    "1.2.840.10008.1.2.4.80": ("dcmdjpls",),
    "1.2.840.10008.1.2.4.81": ("dcmdjpls",),
}
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


def decoded(path: Path, out: Path) -> FileDataset | None:
    """The same image, native, by DCMTK's decoders (it has none for JPEG 2000); None for one that isn't whole."""
    read = pydicom.dcmread(path)
    syntax = str(read.file_meta.TransferSyntaxUID)
    if syntax in _JPEG_2000:
        frames = generate_frames(read.PixelData, number_of_frames=int(read.get("NumberOfFrames", 1)))
        try:
            read.PixelData = b"".join(imagecodecs.jpeg2k_decode(frame).tobytes() for frame in frames)
        except imagecodecs.Jpeg2kError:
            return None
        read.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if read.PhotometricInterpretation.startswith("YBR_"):
            read.PhotometricInterpretation = "RGB"
        return read
    if read.file_meta.TransferSyntaxUID.is_compressed:
        done = call(*_DECODERS.get(syntax, ("dcmdjpeg",)), path, out)
        return pydicom.dcmread(out) if done.returncode == 0 else None
    n_pixels = read.Rows * read.Columns * read.SamplesPerPixel * int(read.get("NumberOfFrames") or 1)
    return read if len(read.PixelData) * 8 >= n_pixels * read.BitsAllocated else None


def as_argument(part: object) -> str:
    """Bytes as a program's argument: they arrive as they are, whatever character set they are in."""
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else str(part)
