"""What the DICOM server counts."""

from __future__ import annotations

from pacsd.model.objects import Outcome
from pacsd.runtime import metrics
from pacsd.runtime.logs import get_logger
from pacsd.workflow.intake import Origin

log = get_logger("pacsd.dicom.store")

MAX_STATIONS = 500
"""Calling titles that are counted by name; more are counted together, so that a hostile peer can't fill the memory."""

_STORED = metrics.counter(
    "pacsd_dicom_stored", "Objects received, by sender and what became of them.", ["station", "outcome"]
)
_BYTES = metrics.counter("pacsd_dicom_stored_bytes", "Bytes of data sets received, by sender.", ["station"])
_FLAGS = metrics.counter("pacsd_dicom_stored_flags", "Oddities found in objects that were stored.", ["flag"])

_counters: dict[tuple[str, Outcome | None], tuple[metrics.Counter, metrics.Counter]] = {}


def stored(origin: Origin, outcome: Outcome | None, size_bytes: int, flags: frozenset[str]) -> None:
    """Port `workflow.ingest.Observer`; `outcome` is None when the object was not taken."""
    key = origin.source_ae, outcome
    pair = _counters.get(key)
    if pair is None:
        station = origin.source_ae if len(_counters) < MAX_STATIONS else "other"
        pair = _STORED.labels(station, outcome.value if outcome else "failed"), _BYTES.labels(station)
        if len(_counters) < MAX_STATIONS:
            _counters[key] = pair
    pair[0].inc()
    pair[1].inc(size_bytes)
    for flag in flags:
        _FLAGS.labels(flag).inc()
