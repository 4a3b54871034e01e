"""One pool: a folder of a file system that holds sealed objects, and whether it can take more.

A pool's root has a marker file `pacsd-pool.toml` with its name and a UUID. A disk that isn't mounted leaves
an empty mount point without the marker, so nothing is ever written beside the disk.

    <root>/pacsd-pool.toml
    <root>/objects/YYYY/MM/DD/<run>-<n>/<sha256>.dcm
    <root>/journal/<run>-<n>
    <root>/quarantine/
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH103, PTH104, PTH118, PTH123

from __future__ import annotations

import errno
import os
import threading
import time
import tomllib
import uuid as uuids
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from pacsd.config.sections import Pool as PoolSection
from pacsd.model.errors import OutOfResources

MARKER = "pacsd-pool.toml"
OBJECTS = "objects"
JOURNAL = "journal"
QUARANTINE = "quarantine"
DIRECTORY_MODE = 0o750

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
FAILOVER_ERRNOS = FULL_ERRNOS | {
    errno.EIO,
    errno.EROFS,
    errno.ENODEV,
    errno.ESTALE,
    errno.ENXIO,
    errno.ENOENT,
}
"""Errors that say that this pool, rather than this object, is the trouble (ENOENT: its folder is gone)."""

PROCESS_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say that this process or machine is at its limit, whichever pool it tries."""

_SPACE_CACHE_S = 1.0
_FULL_RETRY_S = 5.0


class PoolUnavailable(OutOfResources):
    """The pool's folder is absent, isn't ours, or has failed: nothing was written."""


class PoolState(Enum):
    """What a pool can be used for now; every state but FAILED is readable."""

    ONLINE = "online"
    FULL = "full"
    READ_ONLY = "read-only"
    FAILED = "failed"


class Pool:
    """One pool and its state. Any thread; every process has its own view of the state.

    Args:
        name: as index rows have it; letters, digits, '-' and '_'.
        root: absolute path of the folder.
        read_only: never written (a pool being emptied, an archive).
        high_watermark: used share of the file system (0 to 1) from which no new object is placed here.
        low_watermark: used share below which a pool that was over the high one takes objects again.
        uuid: what the marker must say; '' takes any.
        retry_after_s: how long a failed pool is left alone before it is tried again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        root: str | os.PathLike[str],
        read_only: bool = False,  # noqa: FBT002 - the configuration names it
        high_watermark: float = 0.95,
        low_watermark: float = 0.93,
        *,
        uuid: str = "",
        retry_after_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise ValueError(f"pool name {name!r}: use letters, digits, '-' and '_'")
        if not 0 < low_watermark <= high_watermark <= 1:
            raise ValueError(f"pool {name}: watermarks must be 0 < low <= high <= 1")
        self.name = name
        self.root = os.fspath(root)
        self.read_only = read_only
        self.uuid = uuid
        self._high = high_watermark
        self._low = low_watermark
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._opened = False
        self._over_watermark = False
        self._space_at = float("-inf")
        self._used = 0.0
        self._retry_at = float("-inf")
        self._failed: PoolState | None = None
        self.n_failures = 0
        """How often it failed otherwise than by being full: what was opened before isn't used again."""
        self.reason = ""
        """Why it is FULL or FAILED, for the log and the console; '' when it isn't."""

    def create(self) -> None:
        """Make the folder a pool: marker and sub-folders, all durable. Repeating it is harmless.

        Raises:
            PoolUnavailable: the folder is another pool's, or can't be written.
        """
        try:
            os.makedirs(self.root, DIRECTORY_MODE, exist_ok=True)
            for folder in (OBJECTS, JOURNAL, QUARANTINE):
                os.makedirs(os.path.join(self.root, folder), DIRECTORY_MODE, exist_ok=True)
            marker = Path(self.root, MARKER)
            if not marker.exists():
                text = f'name = "{self.name}"\nuuid = "{self.uuid or uuids.uuid4()}"\n'
                draft = marker.with_suffix(".new")
                with open(draft, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(draft, marker)
            sync_directory(self.root)
        except OSError as error:
            raise PoolUnavailable(f"pool {self.name} can't be created: {errno_text(error)}") from error
        self.open()

    def open(self) -> None:
        """Check the marker.

        Raises:
            PoolUnavailable: no marker (disk not mounted?), or another pool's.
        """
        try:
            with open(os.path.join(self.root, MARKER), "rb") as file:
                marker = tomllib.loads(file.read(4096).decode())
        except OSError as error:
            raise PoolUnavailable(f"pool {self.name}: no {MARKER} in its folder (not mounted?)") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PoolUnavailable(f"pool {self.name}: {MARKER} can't be read") from error
        if marker.get("name") != self.name or (self.uuid and marker.get("uuid") != self.uuid):
            raise PoolUnavailable(f"pool {self.name}: {MARKER} names another pool")
        self.uuid = str(marker.get("uuid", ""))
        self._opened = True

    def path(self, relative: str) -> str:
        """Absolute path of something below the root."""
        return f"{self.root}/{relative}"

    @property
    def state(self) -> PoolState:
        """What it can be used for now. Touches the disk at most once a second."""
        if not self._healthy():
            return self._failed or PoolState.FAILED
        if self.read_only:
            return PoolState.READ_ONLY
        return PoolState.FULL if self._over_high() else PoolState.ONLINE

    def writable(self) -> bool:
        """Whether a new object may be placed here now."""
        return not self.read_only and self._healthy() and not self._over_high()

    def fail(self, error: OSError, reason: str = "") -> None:
        """Leave the pool alone for a while after an error that wasn't the object's fault."""
        full = error.errno in FULL_ERRNOS
        with self._lock:
            self._failed = PoolState.FULL if full else PoolState.FAILED
            self.reason = reason or errno_text(error)
            self.n_failures += not full
            self._retry_at = self._clock() + (min(_FULL_RETRY_S, self._retry_after_s) if full else self._retry_after_s)
            self._opened = False
            self._space_at = float("-inf")

    @property
    def used_fraction(self) -> float:
        """Used share of the file system as `df` counts it, at most one second old. Raises OSError."""
        now = self._clock()
        if now - self._space_at >= _SPACE_CACHE_S:
            space = os.statvfs(self.root)
            usable = space.f_blocks - space.f_bfree + space.f_bavail
            self._used = 1.0 - space.f_bavail / usable if usable else 1.0
            self._space_at = now
        return self._used

    @property
    def free_bytes(self) -> int:
        """What an unprivileged process may still write. Raises OSError."""
        space = os.statvfs(self.root)
        return space.f_bavail * space.f_frsize

    def _healthy(self) -> bool:
        if self._opened:
            return True
        if self._clock() < self._retry_at:
            return False
        with self._lock:
            now = self._clock()
            if now < self._retry_at:
                return False
            try:
                self.open()
            except PoolUnavailable as error:
                self._failed, self.reason = PoolState.FAILED, error.comment
                self._retry_at = now + self._retry_after_s
                return False
            self._failed, self.reason = None, ""
            return True

    def _over_high(self) -> bool:
        try:
            used = self.used_fraction
        except OSError as error:
            self.fail(error)
            return True
        self._over_watermark = used >= (self._low if self._over_watermark else self._high)
        return self._over_watermark


def pool_of(section: PoolSection) -> Pool:
    """A pool as its section describes it; touches no disk."""
    return Pool(
        section.name,
        section.path,
        section.read_only,
        section.high_water_percent / 100,
        min(section.low_water_percent, section.high_water_percent) / 100,
    )


def sync_directory(path: str) -> None:
    """Make a folder's entries durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def errno_text(error: OSError) -> str:
    """The system's words for an error, without the path in it."""
    return os.strerror(error.errno) if error.errno else "I/O error"
