"""What the web server is made of."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from pacsd.config.sections import Config
from pacsd.model.errors import OutOfResources
from pacsd.runtime.listen import Listener
from pacsd.runtime.offload import Offload
from pacsd.runtime.services import Role, Step
from pacsd.storage.pool import MARKER
from pacsd.web.health import Accounts, Check, Healthz, Metrics, Readyz
from pacsd.web.problem import Problem

if TYPE_CHECKING:
    # SQLAlchemy is a fifth of this process's memory; it is loaded when the database is first asked.
    from pacsd.index.database import Database


def make_role(config: Config, process: str, roles: Callable[[], dict[str, bool]], reactor: Any) -> Role:
    """Make the web role.

    Args:
        config: The site.
        process: The name of this process on its status socket.
        roles: The roles of this process and whether each serves.
        reactor: The reactor.
    """
    database = DatabaseCheck(config.database_url)
    offload = Offload("web", threads=2, max_queued=64)
    accounts = Accounts(config.run, process, roles, reactor)
    checks: dict[str, Check] = {
        "database": lambda: offload.run(database.check),
        "pools": lambda: offload.run(find_writable_pool, config),
    }
    if config.dicom.enabled:
        checks["dicom"] = accounts.check_dicom

    root = Root()
    root.putChild(b"healthz", Healthz())
    root.putChild(b"readyz", Readyz(checks, reactor))
    root.putChild(b"metrics", Metrics(accounts))
    site = BoundedSite(root, config.web.max_request_bytes)

    return Role(
        "web",
        [
            Step("database", stop=lambda _: database.close()),
            Step("offload", stop=lambda limit_s: offload.stop(limit_s, reactor.callLater)),
            Listener("web", site, config.web.bind, config.web.port, reactor),
        ],
        call_later=reactor.callLater,
    )


class DatabaseCheck:
    """Asks the PACS database for its schema; opened when first asked, so that a start needs no database.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._database: Database | None = None

    def check(self) -> str:
        """Return what is wrong, or nothing. Thread: pool."""
        from pacsd.index.database import Database

        try:
            with self._lock:
                self._database = self._database or Database(self._url)
            self._database.ready()
        except OutOfResources as error:
            return error.comment
        return ""

    def close(self) -> None:
        """Close its connections. Thread: pool."""
        if self._database is not None:
            self._database.close()


def find_writable_pool(config: Config) -> str:
    """Try whether a pool takes an object now, leaving nothing behind. Thread: pool.

    Returns:
        Empty if one does, else what is wrong.
    """
    wrong = []
    for pool in config.storage.pools:
        if pool.read_only:
            continue
        try:
            (pool.path / MARKER).stat()
            usage = shutil.disk_usage(pool.path)
            with tempfile.TemporaryFile(dir=pool.path):
                full_percent = 100 * (1 - usage.free / usage.total)
        except OSError as error:
            wrong.append(f"pool {pool.name}: {os.strerror(error.errno or 0)}")
            continue
        if full_percent < pool.high_water_percent:
            return ""
        wrong.append(f"pool {pool.name} is {full_percent:.0f}% full")
    if not config.storage.pools:
        return "no pool is configured"
    return "; ".join(wrong) or "every pool is read-only"


class Root(Resource):
    """The top of the site: what isn't there is a problem document."""

    def getChild(self, path: bytes, request: HttpRequest) -> Resource:
        """Answer 404 for every name that isn't a child."""
        return Problem(404, "There is nothing at this address.")


class BoundedRequest(Request):
    """A request that is refused when its body gets too long.

    Args:
        max_bytes: The longest body that is taken.
        arguments: Twisted's.
    """

    def __init__(self, max_bytes: int, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._max_bytes = max_bytes

    def render(self, resrc: Any) -> None:
        """Answer without saying which version of what serves."""
        self.setHeader(b"server", b"pacsd")
        super().render(resrc)

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that announces to be too long; Twisted would spool it to a temporary file."""
        if length is not None and length > self._max_bytes:
            self.channel.forceAbortClient()
            return
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """Refuse a chunked body as soon as it is too long."""
        assert self.content is not None
        if self.content.tell() + len(data) > self._max_bytes:
            self.channel.forceAbortClient()
            return
        super().handleContentChunk(data)


class BoundedSite(Site):
    """An HTTP site with a bound on request bodies that doesn't say what it is made of.

    Args:
        root: The top resource.
        max_request_bytes: The longest body that is taken.
    """

    displayTracebacks = False

    def __init__(self, root: Resource, max_request_bytes: int) -> None:
        super().__init__(root, requestFactory=functools.partial(BoundedRequest, max_request_bytes), timeout=60)

    def log(self, request: HttpRequest) -> None:
        """Write no access log: addresses of DICOMweb name patients' studies."""
