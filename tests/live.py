"""A real site in processes of its own, for tests over sockets: made by `pacsd init`, run by `pacsd run`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from pacsd.config.render import example

PACSD = [sys.executable, "-m", "pacsd.cli.main"]
_READY = b"pacsd ready\n"


def free_ports(count: int) -> list[int]:
    """Return several different TCP ports of loopback that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def wait_until(condition: Callable[[], object], limit_s: float = 20.0, what: str = "it") -> None:
    """Wait for a condition; AssertionError if it doesn't come true within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {limit_s:g} s"
        time.sleep(0.02)


class Site:
    """A site that can be started, stopped and killed; as a context manager it is started, and gone at the end.

    Args:
        state: A folder that doesn't exist yet; the site is made in it at once.
        workers: DICOM processes; 0 runs the DICOM server inside the one process of `pacsd run`.
        database: An SQLAlchemy URL; None for SQLite in the state folder.
        extra: Settings to add, as TOML or as a mapping: section → key → value.
        environment: Variables of the processes, beside this one's.
    """

    ae_title = "PACSD"
    host = "127.0.0.1"

    def __init__(
        self,
        state: Path,
        *,
        workers: int = 0,
        database: str | None = None,
        extra: str | Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state.absolute()
        self.config = self.state / "pacsd.toml"
        self.pool = self.state / "images"
        self.log = self.state / "log"
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._n_workers = workers
        self.dicom_port, self.web_port, hl7_port = free_ports(3)
        ports = ("--dicom-port", self.dicom_port, "--web-port", self.web_port, "--hl7-port", hl7_port)
        where = ("--database", database) if database else ()
        made = self.run("init", "--state", self.state, "--open", "--json", "--workers", workers, *ports, *where)
        assert made.returncode == os.EX_OK, made.stderr
        self.login: dict[str, str] = json.loads(made.stdout)
        if extra:
            self.configure(extra)

    # -- configuration -----------------------------------------------------------------------------------------------

    def configure(self, extra: str | Mapping[str, Any]) -> None:
        """Set more of `pacsd.toml`; counts from the next start."""
        values = tomllib.loads(self.config.read_text("utf-8"))
        for section, settings in (tomllib.loads(extra) if isinstance(extra, str) else extra).items():
            values.setdefault(section, {}).update(settings)
        self.config.write_text(example(values), "utf-8")

    def run(self, *arguments: object, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run another verb of `pacsd` to its end; `--config` is the caller's to give."""
        command = [*PACSD, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, env=self.environment
        )

    def add_peer(self, ae_title: str, port: int, host: str = "127.0.0.1", **options: object) -> None:
        """Register a peer by `pacsd peer add`; options such as `bytes_per_s=1000`."""
        more = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        done = self.run("peer", "add", ae_title, host, port, "--config", self.config, *more)
        assert done.returncode == os.EX_OK, done.stderr

    # -- processes ---------------------------------------------------------------------------------------------------

    def start(self, limit_s: float = 60.0) -> None:
        """Start all roles and wait until every port listens; AssertionError with the log's end if they don't."""
        assert not self.is_running, "the site runs already"
        output: IO[bytes]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*PACSD, "run", "--config", str(self.config)],
                stdout=subprocess.PIPE, stderr=output, env=self.environment,
            )  # fmt: skip
        line = _line_of(self.process, limit_s)
        if line != _READY:
            self.kill()
            raise AssertionError(f"the site did not become ready, it said {line!r}; its log ends:\n{self.tail()}")

    def stop(self, limit_s: float = 40.0) -> int:
        """Ask it to stop, as systemd would; returns the exit status."""
        return self._end(signal.SIGTERM, limit_s)

    def kill(self) -> None:
        """SIGKILL to every process of the site, so that none can do anything more."""
        workers = self.workers
        if self.process is not None and self.process.poll() is None:
            # The supervisor first: it would start workers anew.
            self.process.kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL, 10.0)
        for pid in workers:
            wait_until(lambda pid=pid: not _is_running(pid), 10.0, "the end of a killed worker")

    def restart(self) -> None:
        """Stop, then start."""
        self.stop()
        self.start()

    def _end(self, how: int, limit_s: float) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        assert process.stdout is not None
        try:
            if process.poll() is None:
                process.send_signal(how)
            return process.wait(limit_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()

    @property
    def is_running(self) -> bool:
        """Whether the process of `pacsd run` is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process of `pacsd run`."""
        assert self.process is not None
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        """The process ids of the DICOM workers, by their number; empty with workers=0 or when it doesn't run."""
        if not self.is_running:
            return []
        found = {}
        for pid in _children(self.pid):
            line = _command_line(pid)
            if "pacsd-dicom" in line and "--worker" in line:
                found[int(line[line.index("--worker") + 1])] = pid
        return [found[number] for number in sorted(found)]

    @property
    def dicom_processes(self) -> list[int]:
        """Every process that serves DICOM: the workers, or with workers=0 the one process."""
        return self.workers if self._n_workers else [self.pid]

    # -- what it says ------------------------------------------------------------------------------------------------

    def metrics(self, name: str) -> dict[str, float]:
        """Fetch the samples of one metric: `label="value",…` sorted, without `process` → sum over processes."""
        with urllib.request.urlopen(f"http://{self.host}:{self.web_port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE):
            kept = ",".join(sorted(part for part in labels.split(",") if part and not part.startswith("process=")))
            found[kept] = found.get(kept, 0.0) + float(value)
        return found

    def events(self, event: str = "") -> Iterator[dict[str, Any]]:
        """Give the log of all starts so far, one mapping an event; only those of one name if it is given."""
        for line in self.log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict) and (not event or told.get("event") == event):
                    yield told

    def tail(self, n_lines: int = 30) -> str:
        """Return the end of the log."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-n_lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.is_running:
                self.stop()
        finally:
            self.kill()


def _line_of(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
    """The first line a process prints; what there is of it at its end or at the limit."""
    assert process.stdout is not None
    fd, line, end = process.stdout.fileno(), b"", time.monotonic() + limit_s
    while not line.endswith(b"\n") and time.monotonic() < end:
        if select.select([fd], [], [], 0.5)[0]:
            got = os.read(fd, 4096)
            if not got:
                break
            line += got
    return line


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(") ")[2][:1] not in "ZX"
    except OSError:
        return False
