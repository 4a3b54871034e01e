"""Small file systems of their own, mounted from a file, for as long as a test runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip(f"not permitted here: {command[0]}: {done.stderr.strip()[:100]}")


@contextmanager
def small_disk(folder: Path, n_mib: int) -> Iterator[Path]:
    """An empty ext4 of so many MiB at a folder that doesn't exist yet; skips where it can't be mounted."""
    image = folder.with_name(f"{folder.name}.image")
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(n_mib << 20)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Occupy a file system but for so many bytes; the file to remove later."""
    import os

    filler = folder / "filler"
    space = os.statvfs(folder)
    n_bytes = space.f_bavail * space.f_frsize - leave_bytes
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    return filler
