"""C-STORE: how many objects a second a server makes durable and findable.

In each round every server starts with an empty folder on the same file system; case by case they take turns, so that
each pair of figures is some seconds apart. After each case a C-FIND must name every object that was sent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import servers
from benchmarks.clients import Client, storescu
from benchmarks.data import CT, MR, Kind, Scanner, Series
from benchmarks.results import Comparison, Sample
from benchmarks.servers import NODELAY, Server, Setup
from benchmarks.wire import held_instances


class NotFindable(Exception):
    """A server had acknowledged objects that it doesn't answer for."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is sent.

    Attributes:
        is_stock: sender and Orthanc with Nagle's algorithm on, as they are installed.
        least, aim: goals, in multiples of Orthanc's rate.
    """

    title: str
    kind: Kind
    n_associations: int
    n_objects: int
    is_stock: bool
    least: float
    aim: float


CASES = (
    Case("store CT, 1 association", CT, 1, 500, False, 1.8, 2.5),
    Case("store CT, 4 associations", CT, 4, 500, False, 1.7, 2.2),
    Case("store MR, 1 association", MR, 1, 2000, False, 2.5, 4.0),
    Case("store MR, 4 associations", MR, 4, 2000, False, 2.5, 4.0),
    Case("store CT, 1 association, Nagle on", CT, 1, 100, True, 10.0, 20.0),
    Case("store MR, 1 association, Nagle on", MR, 1, 200, True, 10.0, 20.0),
)


@dataclass(slots=True)
class _Prepared:
    case: Case
    series: list[Series]
    client: Client
    start_s: float
    comparison: Comparison


def measure(
    folder: Path, setup: Setup, n_rounds: int, *, is_quick: bool, say: Callable[[str], None]
) -> list[Comparison]:
    """All cases; rates in objects/s, the start of the sender's process taken off."""
    scanner = Scanner(folder / "sent")
    warm_up = storescu([scanner.series(CT, 2).folder for _ in range(4)], is_nodelay=True)
    prepared = [
        _prepare(scanner, replace(case, n_objects=case.n_objects // 10) if is_quick else case) for case in CASES
    ]
    for number in range(n_rounds):
        with _all_servers(folder / f"round-{number}", setup) as (best, stock):
            for server in {*best, *stock}:
                warm_up.run(server.ae_title, server.port)
            for one in prepared:
                for server in _turn(stock if one.case.is_stock else best, number):
                    sample = _run(one, server)
                    one.comparison.add(server.name, server.command, sample)
                    say(f"round {number + 1}: {one.case.title}: {server.name} {sample.value:.0f}/s")
    return [one.comparison for one in prepared]


def _prepare(scanner: Scanner, case: Case) -> _Prepared:
    share = case.n_objects // case.n_associations
    series = [scanner.series(case.kind, share) for _ in range(case.n_associations)]
    client = storescu([one.folder for one in series], is_nodelay=not case.is_stock)
    start_s = client.start_cost_s()
    n_bytes = sum(one.n_bytes for one in series) // (share * case.n_associations)
    comparison = Comparison(
        case.title, "objects/s", case.least, case.aim, [client.shown("TITLE")],
        f"{share * case.n_associations} objects of {n_bytes} bytes; start of the sender: {start_s * 1000:.0f} ms",
    )  # fmt: skip
    return _Prepared(case, series, client, start_s, comparison)


@contextlib.contextmanager
def _all_servers(folder: Path, setup: Setup) -> Iterator[tuple[list[Server], list[Server]]]:
    """Fresh servers: those at their best and those as installed. pacsd is the same one in both."""
    best = replace(setup, environment=NODELAY)
    with contextlib.ExitStack() as stack:

        def start(name: str, make: Callable[[Path, Setup], AbstractContextManager[Server]], how: Setup) -> Server:
            return stack.enter_context(make(folder / name, how))

        ours = start("pacsd", servers.pacsd, setup)
        yield (
            [ours, start("orthanc", servers.orthanc, best), start("storescp", servers.storescp, best)],
            [ours, start("orthanc-stock", servers.orthanc, setup), start("storescp-stock", servers.storescp, setup)],
        )


def _turn(given: list[Server], number: int) -> list[Server]:
    return given if number % 2 == 0 else given[::-1]


def _run(one: _Prepared, server: Server) -> Sample:
    os.sync()
    seconds, _ = one.client.run(server.ae_title, server.port)
    for series in one.series:
        sent = set(series.sop_instance_uids)
        if server.has_index:
            held = held_instances(server.port, server.ae_title, series.study_uid, series.series_uid)
        else:
            held = {path.name.split(".", 1)[1] for path in (server.folder / "kept").iterdir()}
        if sent - held:
            raise NotFindable(f"{server.name}: {len(sent - held)} of {len(sent)} objects")
    n_objects = one.case.n_objects // one.case.n_associations * one.case.n_associations
    return Sample(n_objects / (seconds - one.start_s), n_objects / seconds)
