"""What was measured, as plain values that go to the table and to JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

OURS, REFERENCE = "pacsd", "Orthanc"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: the figure without the client's start, and with it."""

    value: float
    with_start: float


@dataclass(slots=True)
class Comparison:
    """Work done by several servers in turn; samples of the same round are a pair.

    Attributes:
        least, aim: goals for our figure in multiples of Orthanc's.
        commands: of the client.
        about: how much work, in words.
    """

    title: str
    unit: str
    least: float
    aim: float
    commands: tuple[str, ...]
    about: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, server: str, sample: Sample) -> None:
        """A server's figure of the running round."""
        self.samples.setdefault(server, []).append(sample)

    def ratios(self) -> list[float]:
        """Ours to Orthanc's, round by round."""
        pairs = zip(self.samples[OURS], self.samples[REFERENCE], strict=True)
        return [ours.value / theirs.value for ours, theirs in pairs]

    def median(self, server: str) -> float:
        """A server's figure."""
        return statistics.median(sample.value for sample in self.samples[server])

    def median_with_start(self, server: str) -> float:
        """The same with the client's start in it."""
        return statistics.median(sample.with_start for sample in self.samples[server])

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Growth:
    """A kind of query at two sizes of the index; latencies in ms. `ratio` is p95 to p95."""

    title: str
    n_small: int
    n_large: int
    n_answers: int
    n_queries: int
    p50_small_ms: float
    p95_small_ms: float
    p50_large_ms: float
    p95_large_ms: float
    least: float
    aim: float

    @property
    def ratio(self) -> float:
        """How much slower the large index answers."""
        return self.p95_large_ms / self.p95_small_ms


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks over all processes of pacsd, in bytes, while objects arrive."""

    n_objects: int
    object_bytes: int
    seconds: float
    idle_pss: int
    peak_pss: int
    peak_rss: int
    n_processes: int
    least: int
    aim: int


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of all don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]
