"""Pools in temporary folders, and small Part 10 files."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from pacsd.storage.staging import StagedFile

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One explicit little endian element, as given: odd lengths stay odd."""
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in {"OB", "OW", "SQ", "UN", "UT"}:
        return start + struct.pack("<HL", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def file_meta(sop_instance: str = "1.2.3.4", syntax: str = EXPLICIT_LITTLE) -> bytes:
    """Preamble and group 2."""

    def even(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    group = b"".join(
        [
            element(0x00020002, "UI", even(CT_STORAGE)),
            element(0x00020003, "UI", even(sop_instance)),
            element(0x00020010, "UI", even(syntax)),
            element(0x00020016, "AE", b"MODALITY"),
        ]
    )
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(group))) + group


def dataset(sop_instance: str = "1.2.3.4", n_pixel_bytes: int = 100) -> bytes:
    return b"".join(
        [
            element(0x00080018, "UI", sop_instance.encode() + b"\0" * (len(sop_instance) % 2)),
            element(0x00100020, "LO", b"P1"),
            element(0x0020000D, "UI", b"1.2.3\0"),
            element(0x0020000E, "UI", b"1.2.4\0"),
            element(0x7FE00010, "OW", b"\x01\x02" * (n_pixel_bytes // 2)),
        ]
    )


def stage(server: FileServer, content: bytes, sop_instance: str = "1.2.3.4") -> StagedFile:
    staged = server.begin(file_meta(sop_instance))
    staged.append([content])
    return staged


def sealed(server: FileServer, *staged: StagedFile) -> list[StoredFile]:
    files = []
    for result in server.seal(staged):
        if isinstance(result, Exception):
            raise result
        files.append(result)
    return files


def everything_below(root: str | Path) -> list[str]:
    """Files of a pool's objects and journal, relative, sorted."""
    found = []
    for folder in ("objects", "journal"):
        for where, _, names in os.walk(Path(root, folder)):
            found += [os.path.relpath(Path(where, name), root) for name in names]
    return sorted(found)


class Index:
    """Stands for the index in recovery: which digests have a row."""

    def __init__(self) -> None:
        self.rows: dict[bytes, StoredFile] = {}
        self.n_adopted = 0

    def missing(self, digests: Sequence[bytes]) -> set[bytes]:
        return set(digests) - set(self.rows)

    def adopt(self, file: StoredFile, _header: object) -> None:
        self.rows[file.digest] = file
        self.n_adopted += 1

    def add(self, files: Sequence[StoredFile]) -> None:
        self.rows.update({file.digest: file for file in files})


@pytest.fixture
def make_pool(tmp_path: Path) -> Callable[..., Pool]:
    def make(name: str = "a", **options: object) -> Pool:
        pool = Pool(name, tmp_path / name, **options)  # type: ignore[arg-type]
        pool.create()
        return pool

    return make


@pytest.fixture
def server(make_pool: Callable[..., Pool]) -> Iterator[FileServer]:
    server = FileServer(Pools([make_pool("a"), make_pool("b")]))
    yield server
    server.close()
