"""`twistd pacsd`: all roles of a site from one command.

The web role runs in this process. The DICOM role runs here too if `[dicom] workers` is 0, else in that many
processes of its own, which this one keeps running.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from pacsd.cli.twistd.options import Options, begin
from pacsd.config.sections import Config
from pacsd.runtime.daemon import Daemon
from pacsd.runtime.listen import inherited_fd, open_listening
from pacsd.runtime.notify import Watchdog
from pacsd.runtime.services import Part, Role, Step
from pacsd.runtime.status import Status, remove_stale
from pacsd.runtime.supervise import Workers, twistd_command

__all__ = ["Options", "makeService"]

_PROCESS = "pacsd"


def makeService(options: Any) -> Daemon:
    """Make the process."""
    config = begin(options, _PROCESS)
    # twistd replaces sys.stdout by the log; the line belongs to whoever started us.
    output = sys.__stdout__

    def announce() -> None:
        if output is not None:
            print("pacsd ready", file=output, flush=True)

    from twisted.internet import reactor

    return Daemon(lambda: _site(config, reactor), reactor, stop_limit_s=config.site.stop_limit_s, ready=announce)


def _site(config: Config, reactor: Any) -> Role:
    served: dict[str, Role] = {}

    def roles() -> dict[str, bool]:
        return {name: role.ready for name, role in served.items()}

    parts: list[Part] = [
        Step("stale-status", lambda: remove_stale(config.run)),
        Status(config.run, _PROCESS, roles, reactor),
    ]
    if config.web.enabled:
        from pacsd.web.service import make_role as make_web

        served["web"] = make_web(config, _PROCESS, roles, reactor)
        parts.append(served["web"])
    if config.dicom.enabled and config.dicom.workers:
        parts.append(_dicom_workers(config, reactor))
    elif config.dicom.enabled:
        from pacsd.dicom.service import make_role as make_dicom

        served["dicom"] = make_dicom(config, 0)
        parts.append(served["dicom"])
    parts.append(Watchdog(reactor.callLater))
    return Role(_PROCESS, parts, call_later=reactor.callLater)


def _dicom_workers(config: Config, reactor: Any) -> Workers:
    import socket

    commands = [
        twistd_command("pacsd-dicom", "--config", str(config.source), "--worker", str(number))
        for number in range(1, config.dicom.workers + 1)
    ]

    def listening() -> socket.socket:
        fd = inherited_fd("dicom")
        if fd is not None:
            return socket.socket(fileno=os.dup(fd))
        return open_listening(config.dicom.bind, config.dicom.port)

    return Workers("dicom", commands, listening, reactor)
