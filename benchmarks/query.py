"""Study-level C-FIND at two sizes of the index: how much the slow end of the latency grows.

Both sites (SQLite) run side by side and are asked in turns, 200 times each kind of query with keys drawn at random,
whose number of answers doesn't depend on the size. The client is `benchmarks.wire` on one open association: a latency
is the time from the request's first byte to the final response's last one; nothing is decoded meanwhile.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from benchmarks import servers
from benchmarks.fill import ANSWERS_A_DAY_AND_MODALITY, MODALITIES, STUDIES_A_GROUP, Population, fill
from benchmarks.results import Growth, percentile
from benchmarks.servers import Setup
from benchmarks.wire import STUDY_ROOT_FIND, Association, encode

N_SMALL, N_LARGE = 10_000, 1_000_000
N_LARGE_QUICK = 50_000
N_QUERIES, N_WARM_UP = 200, 20
BATCH = 25
LIMIT, AIM = 1.5, 1.1
_RETURNED = (
    "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber",
    "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip


class WrongAnswer(Exception):
    """A query had more or fewer answers than the population has."""


def by_patient_id(population: Population, draw: random.Random) -> tuple[dict[str, str], int]:
    """All studies of one patient."""
    patient = draw.randrange(population.n_patients)
    return {"PatientID": population.patient_id(patient)}, population.n_studies_of(patient)


def by_name(population: Population, draw: random.Random) -> tuple[dict[str, str], int]:
    """All studies of the patients whose names begin with a prefix, such as SMITHABCDE*."""
    return {"PatientName": population.family(draw.randrange(population.n_groups)) + "*"}, STUDIES_A_GROUP


def by_day(population: Population, draw: random.Random) -> tuple[dict[str, str], int]:
    """A day's studies of one modality."""
    day = population.day(draw.randrange(population.n_days))
    return {"StudyDate": day, "ModalitiesInStudy": draw.choice(MODALITIES)}, ANSWERS_A_DAY_AND_MODALITY


KINDS = (("patient ID", by_patient_id), ("name prefix", by_name), ("date and modality", by_day))
_Kind = Callable[[Population, random.Random], tuple[dict[str, str], int]]


@dataclass(slots=True)
class _Site:
    population: Population
    association: Association
    draw: random.Random

    def ask(self, kind: _Kind, n: int) -> tuple[list[float], int]:
        """Latencies in ms of `n` queries, and how many answers they had in all.

        Raises:
            WrongAnswer: a query had too many or too few.
        """
        latencies, n_answers = [], 0
        for _ in range(n):
            keys, n_expected = kind(self.population, self.draw)
            identifier = encode(_identifier(keys))
            begun = time.perf_counter()
            n_found = sum(1 for _ in self.association.find(identifier))
            latencies.append((time.perf_counter() - begun) * 1000)
            if n_found != n_expected:
                raise WrongAnswer(f"{n_found} answers instead of {n_expected} to {', '.join(keys)}")
            n_answers += n_found
        return latencies, n_answers


def measure(folder: Path, setup: Setup, *, is_quick: bool, say: Callable[[str], None]) -> list[Growth]:
    """Each kind of query at both sizes."""
    n_large = N_LARGE_QUICK if is_quick else N_LARGE
    with contextlib.ExitStack() as stack:
        sites = [
            stack.enter_context(_site(folder / str(n_studies), setup, n_studies, say))
            for n_studies in (N_SMALL, n_large)
        ]
        return [_measure(title, kind, sites, say) for title, kind in KINDS]


@contextlib.contextmanager
def _site(folder: Path, setup: Setup, n_studies: int, say: Callable[[str], None]) -> Iterator[_Site]:
    with servers.made_site(folder, setup) as (config, port):
        begun = time.monotonic()
        population = fill(f"sqlite:///{config.parent / 'index.sqlite'}", n_studies)
        say(f"index of {n_studies} studies made in {time.monotonic() - begun:.0f} s")
        with (
            servers.running_site(folder, config, port) as server,
            Association(port, server.ae_title, STUDY_ROOT_FIND) as association,
        ):
            yield _Site(population, association, random.Random(n_studies))


def _measure(title: str, kind: _Kind, sites: list[_Site], say: Callable[[str], None]) -> Growth:
    latencies: list[list[float]] = [[] for _ in sites]
    n_answers = [0 for _ in sites]
    for site in sites:
        site.ask(kind, N_WARM_UP)
    for _ in range(N_QUERIES // BATCH):
        for at, site in enumerate(sites):
            taken, n_found = site.ask(kind, BATCH)
            latencies[at] += taken
            n_answers[at] += n_found
    small, large = latencies
    growth = Growth(
        f"study query by {title}", sites[0].population.n_studies, sites[1].population.n_studies,
        n_answers[1] / N_QUERIES, N_QUERIES, percentile(small, 50), percentile(small, 95),
        percentile(large, 50), percentile(large, 95), LIMIT, AIM,
    )  # fmt: skip
    say(f"{growth.title}: p95 {growth.p95_small_ms:.2f} ms, {growth.p95_large_ms:.2f} ms: {growth.ratio:.2f} ×")
    return growth


def _identifier(keys: dict[str, str]) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    for keyword in _RETURNED:
        setattr(wanted, keyword, keys.get(keyword, ""))
    return wanted
