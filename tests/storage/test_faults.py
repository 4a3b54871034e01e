"""Real full and broken disks: loop-mounted ext4, tmpfs, a device-mapper target that gives I/O errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacsd.model.errors import OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool, PoolState
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, everything_below, file_meta, sealed, stage

MIB = b"\x5a" * (1 << 20)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip(f"not permitted here: {' '.join(command[:3])}: {done.stderr.strip()[:100]}")
    return done.stdout.strip()


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("mounting needs root")
    folder.mkdir()
    run("mount", *options, str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.fixture(params=["ext4", "tmpfs"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 16 MiB."""
    if request.param == "tmpfs":
        yield from mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m", "tmpfs")
        return
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
    yield from mounted(tmp_path / "small", "-o", "loop", str(image))


def small_pool(root: Path, **options: object) -> Pool:
    pool = Pool("small", root, high_watermark=1.0, low_watermark=1.0, **options)  # type: ignore[arg-type]
    pool.create()
    return pool


@pytest.mark.root
def test_a_disk_that_fills_up_in_the_middle_hands_the_object_to_the_next_pool(
    small_disk: Path, make_pool: Callable[..., Pool]
) -> None:
    small = small_pool(small_disk)
    server = FileServer(Pools([small, make_pool("big")]))
    staged = server.begin(file_meta())
    for _ in range(24):
        staged.append([MIB])
    (file,) = sealed(server, staged)
    assert file.pool == "big"
    assert Path(server.pools.path(file)).read_bytes() == file_meta() + MIB * 24
    assert [name for name in everything_below(small_disk) if name.startswith("objects")] == []
    assert small.state is PoolState.FULL
    server.close()


@pytest.mark.root
def test_a_full_disk_refuses_leaves_nothing_and_resumes_when_there_is_room(small_disk: Path) -> None:
    now = [0.0]
    server = FileServer(Pools([small_pool(small_disk, clock=lambda: now[0])]))
    kept: list[StoredFile] = []

    def fill() -> None:
        for n in range(40):
            staged = server.begin(file_meta(f"1.{n}"))
            staged.append([MIB])
            kept.extend(sealed(server, staged))

    with pytest.raises(OutOfResources) as caught:
        fill()
    assert caught.value.dicom_status == 0xA700
    assert len(kept) >= 8
    objects = [name for name in everything_below(small_disk) if name.startswith("objects")]
    assert objects == sorted(file.path for file in kept)
    with pytest.raises(OutOfResources):
        stage(server, dataset())
    for file in kept[:4]:
        server.remove(file)
    now[0] += 10
    (after,) = sealed(server, stage(server, dataset()))
    assert server.exists(after)
    server.close()


@pytest.fixture
def breakable_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """An ext4 file system, and a call that makes its device answer with I/O errors from then on."""
    if os.geteuid() or not shutil.which("dmsetup"):
        pytest.skip("I/O errors for real need root and dmsetup; see the injected ones in test_seal and test_pools")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    run("mkfs.ext4", "-q", str(image))
    loop = run("losetup", "--find", "--show", str(image))
    name = f"pacsd-test-{os.getpid()}"
    try:
        run("dmsetup", "create", name, "--table", f"0 {(32 << 20) // 512} linear {loop} 0")
        try:

            def breaks() -> None:
                for command in (
                    ("dmsetup", "suspend", "--noflush", "--nolockfs", name),
                    ("dmsetup", "load", name, "--table", f"0 {(32 << 20) // 512} error"),
                    ("dmsetup", "resume", name),
                ):
                    subprocess.run(command, check=True, timeout=30)

            for folder in mounted(tmp_path / "broken", f"/dev/mapper/{name}"):
                yield folder, breaks
        finally:
            subprocess.run(["dmsetup", "remove", "--force", "--retry", name], check=False, timeout=30)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=False, timeout=30)


@pytest.mark.root
def test_a_disk_that_breaks_before_the_sync_hands_the_object_to_the_next_pool(
    breakable_disk: tuple[Path, Callable[[], None]], make_pool: Callable[..., Pool]
) -> None:
    root, breaks = breakable_disk
    server = FileServer(Pools([small_pool(root), make_pool("sound")]))
    staged = [stage(server, dataset(f"1.{n}", 10_000)) for n in range(3)]
    breaks()
    files = sealed(server, *staged)
    assert [file.pool for file in files] == ["sound"] * 3
    for n, file in enumerate(files):
        assert Path(server.pools.path(file)).read_bytes() == file_meta() + dataset(f"1.{n}", 10_000)
    assert not server.pools["small"].writable()
    server.close()


def test_a_file_size_limit_ends_the_object_and_leaves_nothing(tmp_path: Path) -> None:
    child = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pacsd.model.errors import OutOfResources
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
pool = Pool("a", sys.argv[1])
pool.create()
server = FileServer(Pools([pool]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
staged = server.begin(b"meta")
try:
    staged.append([bytes(200_000)])
except OutOfResources:
    print("refused", pool.writable())
"""
    done = subprocess.run(
        [sys.executable, "-c", child, str(tmp_path), str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == "refused True"
    assert [name for name in everything_below(tmp_path) if name.startswith("objects")] == []
