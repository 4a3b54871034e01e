"""What lies in a pool: directories in order, sealed names and part files, in bounded memory."""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH208

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pacsd.storage.pool import OBJECTS, Pool

BATCH = 256
_SEALED_NAME = re.compile(r"[0-9a-f]{64}\.dcm")
_PART_NAME = re.compile(r"\.[0-9]+\.part")
_DIRECTORY = re.compile(OBJECTS + r"/[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9A-Za-z_]+-[0-9]+")


class Listing(NamedTuple):
    """One directory's entries, sorted: digests of sealed names, part files, names of nobody's."""

    digests: list[bytes]
    parts: list[str]
    strange: list[str]


def is_object_directory(path: str) -> bool:
    """Whether a pool-relative path is one that a worker would have made; nothing else is ever followed."""
    return _DIRECTORY.fullmatch(path) is not None


def list_directory(path: str) -> Listing:
    """Entries of one object directory; at most a few thousand. Raises OSError."""
    digests, parts, strange = [], [], []
    for name in sorted(os.listdir(path)):
        if _SEALED_NAME.fullmatch(name):
            digests.append(bytes.fromhex(name[:64]))
        elif _PART_NAME.fullmatch(name):
            parts.append(name)
        else:
            strange.append(name)
    return Listing(digests, parts, strange)


def object_directories(pool: Pool, after: str = "") -> Iterator[str]:
    """Pool-relative paths of all object directories that sort behind `after`. Raises OSError."""
    for year in _subfolders(pool, OBJECTS):
        for month in _subfolders(pool, year):
            for day in _subfolders(pool, month):
                if day < after[: len(day)]:
                    continue
                for path in _subfolders(pool, day):
                    if path > after and is_object_directory(path):
                        yield path


def batches(digests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Slices of at most `BATCH`, for one question to the index each."""
    for start in range(0, len(digests), BATCH):
        yield digests[start : start + BATCH]


def _subfolders(pool: Pool, path: str) -> list[str]:
    with os.scandir(pool.path(path)) as entries:
        return sorted(f"{path}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False))
