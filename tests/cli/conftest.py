"""The command as users run it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PACSD = [sys.executable, "-m", "pacsd.cli.main"]


@pytest.fixture(scope="session")
def pacsd() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `pacsd` with arguments and wait for its end."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [*PACSD, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)

    return run


class Running:
    """A site that runs."""

    def __init__(self, config: Path, web_port: int, log: Path) -> None:
        self.config = config
        self.web_port = web_port
        self._log = log
        self._output = log.open("w")
        command = [*PACSD, "run", "--config", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._output, text=True)

    def wait_ready(self) -> str:
        """Return the first line it prints; empty if it ended instead."""
        return self.process.stdout.readline()

    def get(self, path: str, **options: Any) -> tuple[int, str, bytes]:
        """Fetch from the web port: status, content type, body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", **options)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["content-type"], error.read()

    def events(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines()]

    def end(self, how: int = signal.SIGTERM) -> int:
        """Stop it and return its exit status."""
        self.process.send_signal(how)
        status = self.process.wait(30)
        self.close()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._output.close()


@pytest.fixture
def run_site() -> Iterator[Callable[[Path], Running]]:
    """Start `pacsd run` over a configuration; ended with the test."""
    running: list[Running] = []

    def start(config: Path) -> Running:
        found = re.search(r"^\[web\].*?^port = (\d+)", config.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        port = int(found.group(1)) if found else 8080
        site = Running(config, port, config.parent / f"log-{len(running)}")
        running.append(site)
        return site

    yield start
    for site in running:
        site.close()


@pytest.fixture
def new_site(pacsd, tmp_path, free_ports) -> Callable[..., Path]:
    """Make a site with `pacsd init` on free ports; gives its configuration."""

    def make(*arguments: object) -> Path:
        dicom, web, hl7 = free_ports
        state = tmp_path / "site"
        ports = ("--dicom-port", dicom, "--web-port", web, "--hl7-port", hl7)
        done = pacsd("init", "--state", state, "--open", *ports, *arguments)
        assert done.returncode == os.EX_OK, done.stderr
        return state / "pacsd.toml"

    return make


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition."""

    def wait(condition: Callable[[], object], limit_s: float = 15.0) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.05)

    return wait
