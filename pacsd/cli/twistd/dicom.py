"""`twistd pacsd-dicom`: one process of the DICOM role; several share the port."""

from __future__ import annotations

from typing import Any

from pacsd.cli.twistd.options import WorkerOptions as Options
from pacsd.cli.twistd.options import begin
from pacsd.runtime.daemon import Daemon
from pacsd.runtime.notify import Watchdog
from pacsd.runtime.services import Role
from pacsd.runtime.status import Status
from pacsd.runtime.supervise import end_with_supervisor

__all__ = ["Options", "makeService"]


def makeService(options: Any) -> Daemon:
    """Make the process."""
    end_with_supervisor()
    worker = options["worker"]
    process = f"dicom-{worker}"
    config = begin(options, process)

    def make() -> Role:
        from twisted.internet import reactor

        from pacsd.dicom.service import make_role

        role = make_role(config, worker)
        status = Status(config.run, process, lambda: {"dicom": role.ready}, reactor)
        return Role(process, [status, role, Watchdog(reactor.callLater)])

    from twisted.internet import reactor

    return Daemon(make, reactor, stop_limit_s=config.site.stop_limit_s)
