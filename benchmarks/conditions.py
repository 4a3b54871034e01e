"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil

import pacsd
from benchmarks.servers import Setup


def conditions(folder: Path, setup: Setup, n_rounds: int) -> dict[str, str]:
    """Name and value of each; nothing that tells whose machine it is."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    total = psutil.virtual_memory().total
    workers = "as `pacsd init` writes it" if setup.workers is None else str(setup.workers)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores, shared by servers and clients",
        "memory": f"{total / 2**30:.0f} GiB",
        "system": f"{_distribution()}, Linux {platform.release()} {platform.machine()}",
        "file system": file_system(folder),
        "load before": f"{load} (1, 5, 15 minutes)",
        "pacsd": f"{pacsd.__version__}{_commit()}, DICOM workers {workers}",
        "Orthanc": _first_line("Orthanc", "--version"),
        "DCMTK": _first_line("storescu", "--version"),
        "Python": platform.python_version(),
        "rounds": str(n_rounds),
    }


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder."""
    mounts: dict[str, str] = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    for parent in (resolved, *resolved.parents):
        if str(parent) in mounts:
            return mounts[str(parent)]
    return "unknown"


def missing_programs() -> list[str]:
    """Programs of the peers that aren't installed."""
    return [name for name in ("Orthanc", "storescu", "storescp", "getscu") if shutil.which(name) is None]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _commit() -> str:
    found = subprocess.run(
        ["git", "-C", str(Path(pacsd.__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f" ({found.stdout.strip()})" if found.returncode == 0 else ""


def _first_line(*command: str) -> str:
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return text.splitlines()[0].strip("$ ") if text else "unknown"
