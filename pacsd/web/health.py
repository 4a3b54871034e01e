"""`/healthz`, `/readyz`, `/metrics`: for load balancers, systemd and those who watch the site."""

from __future__ import annotations

import abc
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pacsd.runtime import status
from pacsd.runtime.logs import get_logger
from pacsd.web.problem import problem_body

log = get_logger(__name__)

Check = Callable[[], Awaitable[str]]
"""Returns what is wrong, in a few words without patient data; empty if nothing is. May raise."""

_KEEP_S = 1.0


class Answer(Resource):
    """A leaf whose answer is made by a coroutine; failures become a problem without inner details."""

    isLeaf = True

    @abc.abstractmethod
    async def body(self, request: Request) -> bytes:
        """Make the answer; headers and status are set on the request."""

    def render_GET(self, request: Request) -> int:
        """Answer when the coroutine ends, if the client is still there."""
        answering = ensureDeferred(self.body(request))

        def gone(_: Failure) -> None:
            answering.cancel()

        def send(body: bytes) -> None:
            request.write(body)
            request.finish()

        def failed(failure: Failure) -> None:
            if not request._disconnected:  # noqa: SLF001 - Twisted offers no other way to know
                log.error("answer-failed", resource=type(self).__name__, error=failure.value)
                send(problem_body(request, 500, "The answer could not be made; the log of the server says why."))

        request.notifyFinish().addErrback(gone)
        answering.addCallback(send).addErrback(failed)
        return NOT_DONE_YET


class Healthz(Resource):
    """The process runs and its reactor turns; nothing else is asked."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Say so."""
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return b'{"status": "ok"}\n'


class Readyz(Answer):
    """Whether an image that comes now could be stored and found.

    Args:
        checks: By name. All run at once; their outcome is kept for a second, however many ask.
        reactor: The clock, and the limit on each check.
        limit_s: A check that takes longer has failed.
    """

    def __init__(self, checks: Mapping[str, Check], reactor: Any, limit_s: float = 5.0) -> None:
        super().__init__()
        self._checks = dict(checks)
        self._reactor = reactor
        self._limit_s = limit_s
        self._kept: dict[str, str] = {}
        self._kept_until_s = -1.0

    async def body(self, request: Request) -> bytes:
        """Return 200 with the checks, or 503 with what is wrong."""
        outcome = await self._outcome()
        told = {name: wrong or "ok" for name, wrong in outcome.items()}
        if any(outcome.values()):
            wrong = "; ".join(f"{name}: {wrong}" for name, wrong in outcome.items() if wrong)
            return problem_body(request, 503, wrong, checks=told)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return json.dumps({"status": "ready", "checks": told}).encode() + b"\n"

    async def _outcome(self) -> dict[str, str]:
        if self._reactor.seconds() < self._kept_until_s:
            return self._kept
        running: list[Deferred[str]] = [
            ensureDeferred(check()).addTimeout(self._limit_s, self._reactor)  # type: ignore[arg-type]  # any awaitable will do
            for check in self._checks.values()
        ]
        results: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)
        outcome = {}
        for name, (_, result) in zip(self._checks, results, strict=True):
            if isinstance(result, Failure):
                log.warning("not-ready", check=name, error=result.value)
                outcome[name] = f"failed ({type(result.value).__name__})"
            else:
                outcome[name] = result
        self._kept, self._kept_until_s = outcome, self._reactor.seconds() + _KEEP_S
        return outcome


class Accounts:
    """What the processes of this site say of themselves.

    Args:
        run: The folder of the status sockets.
        process: The name of this process, which isn't asked over its own socket.
        roles: The roles of this process and whether each serves.
        reactor: The reactor.
    """

    def __init__(self, run: Path, process: str, roles: Callable[[], dict[str, bool]], reactor: Any) -> None:
        self._run = run
        self._process = process
        self._roles = roles
        self._reactor = reactor

    async def load(self) -> dict[str, dict[str, Any] | None]:
        """Ask all at once; None for one that doesn't answer."""
        own = status.own_account(self._process, self._roles())
        others = {name: path for name, path in status.find_sockets(self._run).items() if name != self._process}
        asked = [ensureDeferred(status.fetch_account(path, self._reactor)) for path in others.values()]
        results = await DeferredList(asked, consumeErrors=True)
        told: dict[str, dict[str, Any] | None] = {self._process: own}
        told.update({name: answer if fine else None for name, (fine, answer) in zip(others, results, strict=True)})
        return told

    async def check_dicom(self) -> str:
        """Find a DICOM process that serves; one is enough, the supervisor sees to the others."""
        accounts = await self.load()
        if any(account and account["roles"].get("dicom") for account in accounts.values()):
            return ""
        return "no DICOM process is ready"


class Metrics(Answer):
    """The numbers of all processes of the site in Prometheus's text format."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__()
        self._accounts = accounts

    async def body(self, request: Request) -> bytes:
        """Ask every process; one that doesn't answer is shown as `pacsd_process_up 0`."""
        accounts = await self._accounts.load()
        families = status.merge_families(account for account in accounts.values() if account)
        up = Metric("pacsd_process_up", "Whether the process answers.", "gauge")
        for name, account in accounts.items():
            up.add_sample(up.name, {"process": name}, float(account is not None))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families([up, *families]))
        request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
        return generate_latest(registry)


class _Families(Collector):
    """Metrics that were collected already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return them."""
        return self._families
