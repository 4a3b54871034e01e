"""What a site's processes take of the machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, without what the page cache shares with them.

    Anonymous memory only: pages of mapped files, such as the database's, can be had back by the kernel at any time.
    """
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += _anonymous_bytes(process.pid)
    return total


def _anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def n_held(pid: int) -> int:
    """Connections and files of the pools that a process holds; those to its database are kept for the next query."""
    folder, names = Path(f"/proc/{pid}/fd"), []
    for link in folder.iterdir():
        with contextlib.suppress(OSError):
            names.append(str(link.readlink()))
    return sum(name.startswith("socket:") or "/objects/" in name for name in names)


class Peak:
    """The highest resident memory seen."""

    def __init__(self) -> None:
        self.n_bytes = 0


@contextmanager
def watch_peak(pid: int, every_s: float = 0.02) -> Iterator[Peak]:
    """Look at a process and its descendants again and again meanwhile."""
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            peak.n_bytes = max(peak.n_bytes, rss_bytes(pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        peak.n_bytes = max(peak.n_bytes, rss_bytes(pid))
