"""What all tests share: the corpus, free ports, a site in a folder, and an account of what was left out."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("PACSD_CORPUS", ROOT.parent / "shared" / "corpus"))

_NEEDS = {
    "corpus": ((CORPUS / "inventory.tsv").is_file, "the open test corpus is absent (PACSD_CORPUS)"),
    "interop": (lambda: bool(shutil.which("storescu")), "DCMTK is not installed"),
    "postgresql": (lambda: postgresql_programs() is not None, "PostgreSQL is not installed"),
    "root": (lambda: os.geteuid() == 0, "not run as root, so no file system can be mounted"),
}


def postgresql_programs() -> Path | None:
    """Find the folder of PostgreSQL's server programs; Debian keeps them off PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what a marker needs and this machine lacks."""
    lacking = {name: reason for name, (is_there, reason) in _NEEDS.items() if not is_there()}
    for item in items:
        for name, reason in lacking.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what was not tested, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, times in reasons.items():
        terminalreporter.write_line(f"NOT TESTED: {times} tests, since {reason}", yellow=True)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Return the folder of the open test corpus; a test that takes it carries `@pytest.mark.corpus`."""
    return CORPUS


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago."""
    return take_free_ports(1)[0]


def take_free_ports(count: int) -> list[int]:
    """Return several different free ports."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


@pytest.fixture
def free_ports() -> list[int]:
    """Return three different free ports: DICOM, web, HL7."""
    return take_free_ports(3)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Return an empty folder with a short name."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="p") as folder:
        yield Path(folder)
