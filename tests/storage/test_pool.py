from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.storage.pool import MARKER, Pool, PoolState, PoolUnavailable


def test_a_folder_without_marker_is_never_a_pool(tmp_path: Path) -> None:
    with pytest.raises(PoolUnavailable):
        Pool("a", tmp_path).open()
    assert Pool("a", tmp_path).state is PoolState.FAILED
    assert not Pool("a", tmp_path).writable()
    assert list(tmp_path.iterdir()) == []


def test_another_pools_marker_is_refused(make_pool: Callable[..., Pool]) -> None:
    root = make_pool("a").root
    with pytest.raises(PoolUnavailable):
        Pool("b", root).open()
    with pytest.raises(PoolUnavailable):
        Pool("a", root, uuid="another").open()


def test_creating_twice_keeps_the_uuid(make_pool: Callable[..., Pool]) -> None:
    assert make_pool("a").uuid == make_pool("a").uuid != ""


@pytest.mark.parametrize("text", ["\xff", "name = ", "name = 5\n", ""])
def test_a_damaged_marker_is_refused(make_pool: Callable[..., Pool], text: str) -> None:
    pool = make_pool("a")
    Path(pool.root, MARKER).write_text(text, "latin-1")
    with pytest.raises(PoolUnavailable):
        Pool("a", pool.root).open()


def test_a_failed_pool_is_tried_again_after_a_while(make_pool: Callable[..., Pool]) -> None:
    now = [0.0]
    pool = make_pool("a", retry_after_s=30, clock=lambda: now[0])
    pool.fail(OSError(errno.EIO, ""))
    assert (pool.state, pool.writable()) == (PoolState.FAILED, False)
    assert pool.reason
    now[0] = 31
    assert (pool.state, pool.writable(), pool.reason) == (PoolState.ONLINE, True, "")


def test_a_pool_whose_disk_is_gone_stays_failed_until_the_marker_is_back(
    make_pool: Callable[..., Pool],
) -> None:
    now = [0.0]
    pool = make_pool("a", clock=lambda: now[0])
    shutil.move(pool.root, pool.root + ".away")
    pool.fail(OSError(errno.ENODEV, ""))
    now[0] = 100
    assert not pool.writable()
    shutil.move(pool.root + ".away", pool.root)
    now[0] = 200
    assert pool.writable()


def test_a_full_pool_takes_objects_again_only_below_the_low_watermark(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool("a", high_watermark=0.9, low_watermark=0.8)
    used = [0.5]
    monkeypatch.setattr(Pool, "used_fraction", property(lambda _: used[0]))
    states = []
    for used[0] in (0.5, 0.89, 0.91, 0.85, 0.79, 0.85):
        states.append(pool.writable())
    assert states == [True, True, False, False, True, True]


@pytest.mark.parametrize("name", ["", "a/b", "..", "ä", "a b"])
def test_names_that_would_not_be_a_word_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="pool name"):
        Pool(name, "/nowhere")
