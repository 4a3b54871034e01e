from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.storage.pool import Pool
from pacsd.storage.recover import recover
from tests.storage.conftest import Index, everything_below
from tests.storage.logged import (
    crash,
    logging_server,
    logs,
    lose_all_bytes,
    lose_end,
    lose_name,
    lose_nothing,
    lose_rename,
    read_zeros,
    seal_all,
)


@pytest.mark.parametrize("lose", [lose_nothing, lose_end, lose_all_bytes, read_zeros, lose_name, lose_rename])
def test_what_a_power_cut_takes_from_unsynced_files_comes_back_bit_by_bit(
    make_pool: Callable[..., Pool], lose: Callable[[Path], None]
) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    index.add(list(contents)[:1])
    before = time.time()
    crash(server)
    for file in contents:
        lose(Path(pool.root, file.path))
    report = recover([pool], index.missing, index.adopt)
    assert report.n_restored == (0 if lose is lose_nothing else 3)
    assert report.n_adopted == 2
    assert set(index.rows.values()) == set(contents)
    for file, content in contents.items():
        assert Path(pool.root, file.path).read_bytes() == content
        assert Path(pool.root, file.path).stat().st_mtime <= before
    assert everything_below(pool.root) == sorted(file.path for file in contents)


def test_a_torn_record_and_what_stands_behind_it_count_for_nothing(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    crash(server)
    (log,) = [path for path in logs(pool) if path.read_bytes()[:4] == b"PSL1"]
    with log.open("r+b") as file:
        file.seek(12288 + 5000)
        file.write(b"torn")
    for file in contents:
        Path(pool.root, file.path).unlink()
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_restored, report.n_adopted) == (1, 1)
    assert list(index.rows) == [next(iter(contents)).digest]


def test_records_of_a_retired_directory_bring_nothing_back(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 1)
    crash(server)
    (entry,) = [path for path in Path(pool.root, "journal").iterdir() if ".log." not in path.name]
    entry.unlink()
    (file,) = contents
    Path(pool.root, file.path).unlink()
    assert recover([pool], index.missing, index.adopt).n_restored == 0
    assert everything_below(pool.root) == []


def test_a_directory_is_not_judged_while_another_process_replays_its_log(make_pool: Callable[..., Pool]) -> None:
    import fcntl

    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 1)
    crash(server)
    held = [path.open("rb") for path in logs(pool)]
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX)
    for file in contents:
        lose_all_bytes(Path(pool.root, file.path))
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_directories, report.n_quarantined) == (0, 0)
    for file in held:
        file.close()
    assert recover([pool], index.missing, index.adopt).n_adopted == 1


def test_a_living_workers_log_is_left_alone(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    seal_all(server, 1)
    before = logs(pool)
    assert recover([pool], index.missing, index.adopt).n_restored == 0
    assert logs(pool) == before
    server.close()


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, sealed, stage

server = FileServer(Pools([Pool("a", sys.argv[1])], log_segment_bytes=262144))
phase, _, step = sys.argv[2].partition(":")

def die_after(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        result = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

first = sealed(server, stage(server, dataset("1.1"), "1.1"))
print(first[0].digest.hex(), flush=True)
if phase == "make":
    die_after(step)
server.flush_sealed()
second = sealed(server, stage(server, dataset("1.2"), "1.2"))
print(second[0].digest.hex(), flush=True)
if phase == "seal":
    die_after(step)
third = sealed(server, stage(server, dataset("1.3"), "1.3"))
print(third[0].digest.hex(), flush=True)
if phase == "flush":
    die_after(step)
server.flush_sealed(everything=True)
server.settle(first + second + third)
if phase == "close":
    die_after(step)
server.close(lambda: None)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.crash
@pytest.mark.parametrize(
    "step",
    ["make:open", "make:writev", "make:fsync", "make:rename", "seal:pwritev", "seal:open", "seal:writev",
     "seal:rename", "seal:fdatasync", "seal:close", "flush:fsync", "flush:pwrite", "flush:fdatasync", "close:unlink",
     "close:fsync", "close:close", "none"],
)  # fmt: skip
def test_a_worker_killed_at_any_step_loses_nothing_that_was_acknowledged(
    make_pool: Callable[..., Pool], step: str
) -> None:
    pool, index = make_pool("a"), Index()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, pool.root, step, str(Path(__file__).parents[2])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    acknowledged = {bytes.fromhex(line) for line in child.stdout.split()}
    for draft in Path(pool.root, "journal").glob(".*.new"):
        os.utime(draft, (0, 0))
    recover([pool], index.missing, index.adopt)
    stored = {path.stem: path for path in Path(pool.root, "objects").rglob("*.dcm")}
    assert {digest.hex() for digest in acknowledged} <= set(stored)
    assert [name for name in everything_below(pool.root) if not name.endswith(".dcm")] == []
    if step.startswith(("make", "seal", "flush")):
        assert set(index.rows) == {bytes.fromhex(name) for name in stored}


REPLAY = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.recover import recover
real = getattr(os, sys.argv[2])
def call(*args, **kwargs):
    result = real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(os, sys.argv[2], call)
recover([Pool("a", sys.argv[1])], lambda digests: set(digests), lambda file, header: None)
"""


@pytest.mark.crash
@pytest.mark.parametrize("step", ["writev", "fsync", "rename", "fdatasync", "unlink", "close"])
def test_a_replay_killed_at_any_step_is_done_again(make_pool: Callable[..., Pool], step: str) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    crash(server)
    lost, torn, _ = contents
    Path(pool.root, lost.path).unlink()
    lose_end(Path(pool.root, torn.path))
    child = subprocess.run(
        [sys.executable, "-c", REPLAY, pool.root, step, str(Path(__file__).parents[2])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    recover([pool], index.missing, index.adopt)
    assert set(index.rows.values()) == set(contents)
    for file, content in contents.items():
        assert Path(pool.root, file.path).read_bytes() == content
    assert everything_below(pool.root) == sorted(file.path for file in contents)
