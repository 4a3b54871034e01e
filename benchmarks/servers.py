"""The servers that are compared: each is started fresh in a folder of its own and stopped with all its processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NODELAY = {"TCP_NODELAY": "1"}
"""DCMTK, and Orthanc which is built on it, leave Nagle's algorithm on unless this is in the environment."""

MOVE_DESTINATION = "BENCHMOVE"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServerDied(Exception):
    """A server ended while it was needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """One running server. `folder` holds all that it keeps; `command` is how it was started, without paths."""

    name: str
    ae_title: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    command: str
    has_index: bool = True

    def processes(self) -> list[psutil.Process]:
        """It and all its descendants."""
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@dataclass(frozen=True, slots=True)
class Setup:
    """How servers are to be started.

    Attributes:
        workers: pacsd's DICOM processes; None as `pacsd init` writes it.
        move_port: where the C-MOVE destination `MOVE_DESTINATION` listens.
    """

    workers: int | None = None
    move_port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pacsd(folder: Path, setup: Setup) -> Iterator[Server]:
    """A new site, open to every peer on loopback."""
    with made_site(folder, setup) as (config, port), running_site(folder, config, port) as server:
        yield server


@contextlib.contextmanager
def made_site(folder: Path, setup: Setup) -> Iterator[tuple[Path, int]]:
    """A site that doesn't run yet: its configuration and DICOM port. Its folder is removed at the end."""
    folder.mkdir(parents=True)
    state = folder / "site"
    port = free_port()
    command = [_pacsd(), "init", "--state", str(state), "--open", "--json",
               "--dicom-port", str(port), "--web-port", str(free_port())]  # fmt: skip
    if setup.workers is not None:
        command += ["--workers", str(setup.workers)]
    try:
        made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        config = Path(json.loads(made.stdout)["config"])
        if setup.move_port:
            add = [_pacsd(), "peer", "add", MOVE_DESTINATION, "127.0.0.1", str(setup.move_port)]
            subprocess.run([*add, "--config", str(config)], check=True, capture_output=True, timeout=START_TIMEOUT_S)
        yield config, port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_site(folder: Path, config: Path, port: int) -> Iterator[Server]:
    """`pacsd run` until the end of the block; ready when it says so."""
    log = folder / "log"
    command = [_pacsd(), "run", "--config", str(config)]
    with _started(command, log, {}) as process:
        _wait(lambda: b"pacsd ready" in log.read_bytes(), process, log)
        yield Server("pacsd", "PACSD", port, folder, process, "pacsd run --config site/pacsd.toml")


@contextlib.contextmanager
def orthanc(folder: Path, setup: Setup) -> Iterator[Server]:
    """Orthanc with its default durability and index; only open to unknown peers and without password."""
    folder.mkdir(parents=True)
    port, web_port = free_port(), free_port()
    settings: dict[str, object] = {
        "Name": "bench", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC", "DicomPort": port, "HttpPort": web_port, "AuthenticationEnabled": False,
        "Plugins": [], "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
    }  # fmt: skip
    if setup.move_port:
        settings["DicomModalities"] = {"move": [MOVE_DESTINATION, "127.0.0.1", setup.move_port]}
    (folder / "orthanc.json").write_text(json.dumps(settings, indent=1))
    log = folder / "log"
    try:
        with _started(["Orthanc", str(folder / "orthanc.json")], log, setup.environment) as process:
            _wait(lambda: _answers(f"http://127.0.0.1:{web_port}/system") and _listens(port), process, log)
            command = _shown(setup.environment, ["Orthanc", "orthanc.json"])
            yield Server("Orthanc", "ORTHANC", port, folder, process, command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def storescp(folder: Path, setup: Setup) -> Iterator[Server]:
    """DCMTK's storescp: files only, neither synced nor indexed; what DCMTK's network code can do at most."""
    (folder / "kept").mkdir(parents=True)
    port = free_port()
    options = ["storescp", "--fork", "-pdu", "131072"]
    try:
        command = [*options, "-od", str(folder / "kept"), str(port)]
        with _started(command, folder / "log", setup.environment) as process:
            _wait(lambda: _listens(port), process, folder / "log")
            shown = _shown(setup.environment, options)
            yield Server("storescp", "STORESCP", port, folder, process, shown, has_index=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def destination(folder: Path, port: int, *, is_keeping: bool) -> Iterator[Path]:
    """What C-MOVE sends to: a storescp that keeps files as received, in the folder given back, or throws them away."""
    folder.mkdir(parents=True)
    kept = ["+B", "-od", str(folder)] if is_keeping else ["--ignore"]
    log = folder.with_suffix(".log")
    try:
        with _started(["storescp", "--fork", "-pdu", "131072", *kept, str(port)], log, NODELAY) as process:
            _wait(lambda: _listens(port), process, log)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pacsd() -> str:
    return str(Path(sys.executable).with_name("pacsd"))


def _shown(environment: Mapping[str, str], command: Sequence[str]) -> str:
    return " ".join([*(f"{name}={value}" for name, value in environment.items()), *command])


@contextlib.contextmanager
def _started(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {name: value for name, value in os.environ.items() if name not in NODELAY}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**inherited, **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
        _check_alive(process, log)
    except Exception as cause:
        _check_alive(process, log, cause)
        raise
    finally:
        _stop(process)


def _check_alive(process: subprocess.Popen[bytes], log: Path, cause: Exception | None = None) -> None:
    """Tell a server that died from whatever its client noticed of that."""
    code = process.poll()
    if code is not None:
        tail = log.read_text(errors="replace")[-2000:]
        raise ServerDied(f"{process.args!r} ended by itself with {code}:\n{tail}") from cause


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it and its descendants, those too that outlive it."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()


def _wait(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own server on loopback
            return True
    except (urllib.error.URLError, OSError):
        return False
