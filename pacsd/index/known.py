"""What the index remembers between transactions: the numbers of rows that it has seen.

Only committed rows are remembered, so a rolled-back transaction leaves nothing behind. A row that was
deleted since shows as a broken reference; then everything is forgotten and the batch is done again. Any
thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The last `size` used pairs."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pairs: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value remembered for a key."""
        with self._lock:
            value = self._pairs.get(key)
            if value is not None:
                self._pairs.move_to_end(key)
            return value

    def update(self, pairs: dict[K, V]) -> None:
        """Remember some pairs; the longest unused go."""
        with self._lock:
            self._pairs.update(pairs)
            while len(self._pairs) > self._size:
                self._pairs.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._pairs.clear()


@dataclass(slots=True)
class KnownSeries:
    """A series' place; `sop_classes` are numbers of those that the study's list has for sure."""

    series: int
    study: int
    patient: int
    sop_classes: frozenset[int]


SeriesKey = tuple[str, str]
"""Study Instance UID, Series Instance UID."""


@dataclass(slots=True)
class Known:
    """The remembered numbers of one process."""

    series: Recent[SeriesKey, KnownSeries] = field(default_factory=lambda: Recent(4096))
    uids: Recent[str, int] = field(default_factory=lambda: Recent(1024))
    directories: Recent[tuple[str, str], int] = field(default_factory=lambda: Recent(1024))
    stations: Recent[tuple[str, str, str], int] = field(default_factory=lambda: Recent(1024))

    def clear(self) -> None:
        """Forget all."""
        self.series.clear()
        self.uids.clear()
        self.directories.clear()
        self.stations.clear()
