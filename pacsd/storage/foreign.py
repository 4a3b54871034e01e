"""Files of someone else's on a file system: walking trees and media, opening what may be DICOM.

A medium's DICOMDIR (PS3.10 §8) isn't needed to find its files, since every file of the tree is looked at; it is
read for what it lists and the medium hasn't: a scratched or incomplete CD must not pass as whole.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH112, PTH116, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pacsd.model.errors import IntegrityError
from pacsd.model.objects import ObjectHeader
from pacsd.storage.header import read_file_header
from pacsd.storage.part10 import FileMeta
from pacsd.workflow.importing import Unfit, UnfitFile

PIECE_BYTES = 1 << 20
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_MAX_FILE_ID_BYTES = 256
_FILE_ID = re.compile(
    rb"\x04\x00\x00\x15CS(?P<explicit>..)"
    rb"|\x04\x00\x00\x15(?P<implicit>..)\x00\x00"
    rb"|\x00\x04\x15\x00CS(?P<big>..)",
    re.DOTALL,
)
"""Referenced File ID (0004,1500) in explicit, implicit and big endian encoding."""

EncodeMeta = Callable[[str, str, str, str], bytes]
"""SOP class, SOP instance, transfer syntax, source AE title -> preamble and file meta. Raises ValueError."""


class Candidate(NamedTuple):
    """A file to look at; `is_absent`: a DICOMDIR lists it, but it isn't there."""

    path: str
    size_bytes: int
    is_absent: bool = False


class OpenedFile:
    """Port `ForeignObject`. One thread at a time.

    Raises: UnfitFile.
    """

    __slots__ = ("_dataset_offset", "_encode_meta", "_fd", "header", "source_ae")

    def __init__(self, path: str, encode_meta: EncodeMeta) -> None:
        self._encode_meta = encode_meta
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise UnfitFile(Unfit.NOT_DICOM)
            header, meta = read_file_header(path)
            _check(header, meta)
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except IntegrityError:
            raise UnfitFile(Unfit.NOT_DICOM) from None
        except OSError as error:
            raise UnfitFile(Unfit.UNREADABLE) from error
        self.header: ObjectHeader = header
        self.source_ae = _ae_title(meta.source_ae)
        self._dataset_offset = meta.dataset_offset

    def file_meta(self) -> bytes:
        """Our file meta for it. Raises UnfitFile."""
        header = self.header
        try:
            return self._encode_meta(
                header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid, self.source_ae
            )
        except ValueError:
            raise UnfitFile(Unfit.NO_SOP_INSTANCE_UID) from None

    def pieces(self) -> Iterator[bytes]:
        """The data set in pieces of 1 MiB. Raises UnfitFile."""
        offset = self._dataset_offset
        try:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while piece := os.pread(self._fd, PIECE_BYTES, offset):
                offset += len(piece)
                yield piece
        except OSError as error:
            raise UnfitFile(Unfit.UNREADABLE) from error

    def digest(self, file_meta: bytes) -> bytes:
        """What our file would be named. Raises UnfitFile."""
        proof = hashlib.sha256(file_meta)
        for piece in self.pieces():
            proof.update(piece)
        return proof.digest()

    def close(self) -> None:
        """Repeating it is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def candidates(paths: list[str]) -> Iterator[Candidate]:
    """Every file below some paths, folder by folder in the order of names; of a DICOMDIR, its whole medium.

    Links to files are followed, links to folders are not. A folder that can't be listed is a candidate itself, which
    then can't be read.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _tree(path)
        elif is_dicomdir(path):
            yield from _tree(os.path.dirname(path) or ".", listing=path)
        else:
            yield Candidate(path, _size(path))


def is_dicomdir(path: str) -> bool:
    """Whether a file is the index of a medium, by its name or its SOP class."""
    if _file_id(os.path.basename(path)) == "DICOMDIR":
        return True
    try:
        return read_file_header(path)[0].sop_class_uid == MEDIA_STORAGE_DIRECTORY
    except (IntegrityError, OSError):
        return False


def referenced_files(path: str) -> Iterator[tuple[str, ...]]:
    """File IDs that a DICOMDIR lists, as their components, in the order of the file.

    They are found by their tag rather than by parsing, so that a damaged, wrongly encoded or hostile DICOMDIR gives
    what can be had of it; memory is bounded. Raises OSError.
    """
    with open(path, "rb") as file:
        window = b""
        while piece := file.read(PIECE_BYTES):
            window += piece
            done = 0
            for found in _FILE_ID.finditer(window):
                big = found["big"]
                little = found["explicit"] or found["implicit"]
                length = int.from_bytes(big, "big") if big else int.from_bytes(little, "little")
                if length > _MAX_FILE_ID_BYTES or found.start() < done:
                    continue
                end = found.end() + length
                if end > len(window):
                    break
                components = window[found.end() : end].decode("latin-1").strip(" \0").split("\\")
                if all(components) and not {".", ".."}.intersection(components) and "/" not in "".join(components):
                    yield tuple(components)
                done = end
            window = window[max(done, len(window) - _MAX_FILE_ID_BYTES - 8) :]


def _tree(root: str, listing: str = "") -> Iterator[Candidate]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield Candidate(folder, 0)
            continue
        folders += [entry.path for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]
        for entry in found:
            if entry.is_file():
                yield Candidate(entry.path, _size(entry.path))
                if entry.path == listing or _file_id(entry.name) == "DICOMDIR":
                    yield from _absent(entry.path)


def _absent(dicomdir: str) -> Iterator[Candidate]:
    """What a DICOMDIR lists and its medium lacks. Media are mounted in many ways: names are compared loosely."""
    root = os.path.dirname(dicomdir) or "."
    listings: dict[str, dict[str, str]] = {}

    def names(folder: str) -> dict[str, str]:
        if folder not in listings:
            try:
                listings[folder] = {_file_id(name): name for name in os.listdir(folder)}  # noqa: PTH208
            except OSError:
                listings[folder] = {}
        return listings[folder]

    try:
        for components in referenced_files(dicomdir):
            path = root
            for component in components:
                name = names(path).get(_file_id(component))
                if name is None:
                    yield Candidate(os.path.join(root, *components), 0, is_absent=True)
                    break
                path = os.path.join(path, name)
    except OSError:
        return  # the DICOMDIR is a candidate itself, and told to be unreadable


def _file_id(name: str) -> str:
    """A name as PS3.10 §8.2 knows it: upper case, without ISO 9660's version and empty extension."""
    return name.upper().strip(" ").partition(";")[0].rstrip(".")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _check(header: ObjectHeader, meta: FileMeta) -> None:
    if header.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise UnfitFile(Unfit.DICOMDIR)
    if "missing-sop-instance-uid" in header.flags:
        is_other = "no-meta" in meta.flags and not header.values
        raise UnfitFile(Unfit.NOT_DICOM if is_other else Unfit.NO_SOP_INSTANCE_UID)
    if not header.sop_class_uid:
        raise UnfitFile(Unfit.NO_SOP_CLASS_UID)


def _ae_title(text: str) -> str:
    """A title that may stand in file meta (PS3.5 §6.2): 16 printable ASCII characters, no backslash."""
    printable = "".join(character for character in text if " " <= character <= "~" and character != "\\")
    return printable.strip()[:16].strip()
