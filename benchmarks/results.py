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
        commands: of the client, then of the servers.
        about: how much work, in words.
    """

    title: str
    unit: str
    least: float
    aim: float
    commands: list[str]
    about: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, server: str, command: str, sample: Sample) -> None:
        """A server's figure of the running round, and how the server was started."""
        if command not in self.commands:
            self.commands.append(command)
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


@dataclass(frozen=True, slots=True)
class Growth:
    """A kind of query at two sizes of the index; latencies in ms, `n_answers` the mean of one query."""

    title: str
    n_small: int
    n_large: int
    n_answers: float
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
    """Peaks over all processes of pacsd, in bytes, while objects arrive.

    `high_water_rss` is the kernel's own record, from each process' start and added up: no sample is missed in it.
    """

    n_objects: int
    object_bytes: int
    seconds: float
    idle_pss: int
    peak_pss: int
    peak_rss: int
    high_water_rss: int
    n_processes: int
    least: int
    aim: int


SECTIONS = ("store", "retrieve", "query", "memory")


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of a run found.

    Attributes:
        conditions: machine, versions, options; what: value.
    """

    conditions: dict[str, str]
    comparisons: tuple[Comparison, ...] = ()
    growths: tuple[Growth, ...] = ()
    memory: Memory | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Section:
        """The inverse."""
        comparisons = []
        for given in plain["comparisons"]:
            samples = {name: [Sample(**sample) for sample in values] for name, values in given["samples"].items()}
            comparisons.append(Comparison(**{**given, "samples": samples}))
        memory = Memory(**plain["memory"]) if plain["memory"] else None
        return cls(plain["conditions"], tuple(comparisons), tuple(Growth(**one) for one in plain["growths"]), memory)


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of all don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]
