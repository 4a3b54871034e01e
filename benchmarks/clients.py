"""DCMTK's command-line clients, timed from start to exit; what they need to start alone is measured apart.

The start is that of the same command towards a port where nobody listens: it reads its dictionary and scans its
input files, then finds no server. It is the same for every server and no part of any server's work.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import NODELAY, free_port

LARGEST_PDU = "131072"
"""As large as DCMTK's tools take."""

N_START_RUNS = 5
TIMEOUT_S = 1800


class ClientFailed(Exception):
    """A client did not end with success."""


@dataclass(frozen=True, slots=True)
class Client:
    """Commands that run at once. `{title}` and `{port}` in the arguments are the server's."""

    commands: tuple[tuple[str, ...], ...]
    environment: Mapping[str, str]

    def run(self, title: str, port: int) -> tuple[float, list[str]]:
        """Seconds until all have ended, and what each printed.

        Raises:
            ClientFailed: one of them did not end with success.
        """
        seconds, ended = self._run(title, port)
        for code, text in ended:
            if code:
                raise ClientFailed(f"{self.shown(title)} ended with {code}:\n{text[-2000:]}")
        return seconds, [text for _, text in ended]

    def start_cost_s(self) -> float:
        """Seconds that starting takes: the median of some runs without a server."""
        port = free_port()
        return statistics.median(self._run("NOBODY", port)[0] for _ in range(N_START_RUNS))

    def shown(self, title: str) -> str:
        """The first command as a person would type it."""
        words = [word.format(title=title, port="PORT") for word in self.commands[0]]
        words = ["FOLDER" if Path(word).is_absolute() else word for word in words]
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), *words])

    def _run(self, title: str, port: int) -> tuple[float, list[tuple[int, str]]]:
        inherited = {name: value for name, value in os.environ.items() if name not in NODELAY}
        begun = time.perf_counter()
        running = [
            subprocess.Popen(
                [word.format(title=title, port=port) for word in command],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                env={**inherited, **self.environment},
            )
            for command in self.commands
        ]  # fmt: skip
        texts = [process.communicate(timeout=TIMEOUT_S)[0] for process in running]
        seconds = time.perf_counter() - begun
        return seconds, [(process.returncode, text) for process, text in zip(running, texts, strict=True)]


def storescu(folders: Sequence[Path], *, is_nodelay: bool) -> Client:
    """One association for each folder, all at once; ends at the first object that isn't answered by Success."""
    options = ("storescu", "-xe", "-R", "-pdu", LARGEST_PDU, "-aec", "{title}", "--scan-directories")
    return Client(
        tuple((*options, "127.0.0.1", "{port}", str(folder)) for folder in folders), NODELAY if is_nodelay else {}
    )


def getscu(study_uid: str, *, keep_in: Path | None = None) -> Client:
    """C-GET of a study, thrown away on arrival or kept as received."""
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}")
    kept = ("--ignore",) if keep_in is None else ("+B", "-od", str(keep_in))
    options = ("getscu", "-v", "-S", "-pdu", LARGEST_PDU, "-aec", "{title}")
    return Client(((*options, *keys, *kept, "127.0.0.1", "{port}"),), NODELAY)
