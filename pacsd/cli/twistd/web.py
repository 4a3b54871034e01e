"""`twistd pacsd-web`: the web role alone."""

from __future__ import annotations

from typing import Any

from pacsd.cli.twistd.options import Options, begin
from pacsd.runtime.daemon import Daemon
from pacsd.runtime.notify import Watchdog
from pacsd.runtime.services import Role
from pacsd.runtime.status import Status

__all__ = ["Options", "makeService"]


def makeService(options: Any) -> Daemon:
    """Make the process."""
    config = begin(options, "web")

    def make() -> Role:
        from twisted.internet import reactor

        from pacsd.web.service import make_role

        def roles() -> dict[str, bool]:
            return {"web": role.ready}

        role = make_role(config, "web", roles, reactor)
        return Role("web", [Status(config.run, "web", roles, reactor), role, Watchdog(reactor.callLater)])

    from twisted.internet import reactor

    return Daemon(make, reactor, stop_limit_s=config.site.stop_limit_s)
