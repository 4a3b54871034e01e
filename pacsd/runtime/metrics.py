"""The counters of this process, under `pacsd_<role>_…` names.

Each process counts for itself and offers its numbers on its status socket (`pacsd.runtime.status`);
the web role shows all processes' numbers, each with a label `process`. A process that was killed
starts from nought, which Prometheus expects of a counter.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(namespace="pacsd", registry=REGISTRY)

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Buckets that tell a local disk from a slow one and a slow one from a stuck one."""

_made: dict[str, Counter | Gauge | Histogram] = {}


def counter(name: str, about: str, labels: Sequence[str] = ()) -> Counter:
    """Return the counter of that name, made at the first call."""
    made = _made.get(name) or _made.setdefault(name, Counter(name, about, labels, registry=REGISTRY))
    assert isinstance(made, Counter)
    return made


def gauge(name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
    """Return the gauge of that name, made at the first call."""
    made = _made.get(name) or _made.setdefault(name, Gauge(name, about, labels, registry=REGISTRY))
    assert isinstance(made, Gauge)
    return made


def histogram(
    name: str, about: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS_S
) -> Histogram:
    """Return the histogram of that name, made at the first call; times are in seconds."""
    made = _made.get(name) or _made.setdefault(
        name, Histogram(name, about, labels, buckets=tuple(buckets), registry=REGISTRY)
    )
    assert isinstance(made, Histogram)
    return made
