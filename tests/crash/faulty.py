"""A site whose processes can be made to die, or their calls to fail, at a point of an image's way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.live import Site, wait_until

_PRELOAD = Path(__file__).with_name("preload")


def seal_logs(site: Site) -> list[Path]:
    """The segments that are ready to be written."""
    return [path for path in (site.pool / "journal").glob("*.log.*") if not path.name.startswith(".")]


class FaultySite(Site):
    """See `preload/sitecustomize.py` for the points."""

    def __init__(self, state: Path, **options: Any) -> None:
        self._fault = state.parent / f"{state.name}.fault"
        path = os.pathsep.join([str(_PRELOAD), str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {"PYTHONPATH": path, "PACSD_TEST_FAULT": str(self._fault), **options.pop("environment", {})}
        super().__init__(state, environment=environment, **options)

    def die_at(self, point: str, passing: int = 1) -> None:
        """Have the process kill itself when it passes a point for that time."""
        self._arm(f"{point} {passing} kill")

    def fail_at(self, point: str, error: str, times: int = 1) -> None:
        """Have the next calls at a point fail, by the name of an errno."""
        self._arm(f"{point} {times} {error}")

    def wait_for_log(self, send: Callable[[], object]) -> None:
        """Send until small objects share a seal log, which a worker makes beside its work."""

        def has_log() -> bool:
            send()
            return bool(seal_logs(self))

        wait_until(has_log, 20.0, "the making of a seal log")

    def disarm(self) -> None:
        """Take the fault back, if it hasn't happened."""
        self._fault.unlink(missing_ok=True)

    @property
    def is_armed(self) -> bool:
        """Whether the fault is still to come."""
        return self._fault.exists()

    def _arm(self, line: str) -> None:
        draft = self._fault.with_suffix(".draft")
        draft.write_text(line, "ascii")
        draft.replace(self._fault)
