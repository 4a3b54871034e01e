"""File servers with a seal log, their crashes, and what a power cut does to files that were never synced."""

from __future__ import annotations

import os
from pathlib import Path

from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, file_meta, sealed, stage

SEGMENT = 256 * 1024


def logging_server(*pools: Pool, **options: object) -> FileServer:
    """A file server whose seal logs are ready."""
    server = FileServer(Pools(pools, log_segment_bytes=SEGMENT, **options))  # type: ignore[arg-type]
    for pool in pools:
        server.pools.log_of(pool).wanted = True
    server.flush_sealed()
    assert server.pools.keep_small
    return server


def logs(pool: Pool) -> list[Path]:
    return sorted(Path(pool.root, "journal").glob("*.log.*"))


def crash(server: FileServer) -> None:
    """Give everything up as a dying process does: locks go, nothing is flushed."""
    for pool in server.pools:
        server.pools.log_of(pool).abandon()
    server.close()


def seal_all(server: FileServer, n: int, n_pixel_bytes: int = 10_000) -> dict[StoredFile, bytes]:
    uids = [f"1.{number}" for number in range(n)]
    files = sealed(server, *[stage(server, dataset(uid, n_pixel_bytes), uid) for uid in uids])
    return {file: file_meta(uid) + dataset(uid, n_pixel_bytes) for file, uid in zip(files, uids, strict=True)}


def lose_nothing(_path: Path) -> None:
    pass


def lose_end(path: Path) -> None:
    os.truncate(path, 4096)


def lose_all_bytes(path: Path) -> None:
    os.truncate(path, 0)


def read_zeros(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def lose_name(path: Path) -> None:
    path.unlink()


def lose_rename(path: Path) -> None:
    path.rename(path.with_name(".1.part"))
