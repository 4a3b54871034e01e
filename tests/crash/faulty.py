"""A site whose processes can be made to die, or their calls to fail, at a point of an image's way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.live import Site

_PRELOAD = Path(__file__).with_name("preload")


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
