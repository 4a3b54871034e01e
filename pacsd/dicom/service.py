"""What one process of the DICOM server is made of; read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pacsd.config.sections import Config
from pacsd.dicom import observe
from pacsd.dicom.acceptor import Acceptor, Admission
from pacsd.dicom.association import AssociationSettings
from pacsd.dicom.convert import ProcessConverter
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scp.commitment import Commitment, CommitmentReporter
from pacsd.dicom.scp.echo import echo
from pacsd.dicom.scp.find import Find
from pacsd.dicom.scp.get import Get
from pacsd.dicom.scp.move import Move
from pacsd.dicom.scp.store import Store
from pacsd.dicom.scu.connect import Network
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.storage_classes import STORAGE_SOP_CLASSES
from pacsd.dicom.upkeep import Upkeep
from pacsd.dicom.wire import dimse
from pacsd.index.database import Database
from pacsd.index.jobs import JobQueue
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.peers import PeerTable
from pacsd.model.errors import OutOfResources, PacsError
from pacsd.model.objects import ConflictRule
from pacsd.runtime.listen import Listener
from pacsd.runtime.logs import get_logger
from pacsd.runtime.offload import Offload
from pacsd.runtime.processes import ProcessPool
from pacsd.runtime.services import Role, Step
from pacsd.storage.pool import pool_of
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from pacsd.workflow.ingest import Ingest, Limits

log = get_logger("pacsd.dicom")

CHECKPOINT_S = 60.0
CONVERTERS = 2
COMMITS = 2


def make_role(config: Config, worker: int) -> Role:
    """One process of the role; `worker` is its number, 0 inside the process of `pacsd run`."""
    from twisted.internet import reactor as installed

    reactor = cast("Any", installed)
    name = f"dicom-{worker}"
    settings = AssociationSettings(
        max_pdu_length=config.dicom.max_pdu_length_bytes,
        artim_s=config.dicom.artim_s,
        idle_timeout_s=config.dicom.idle_timeout_s,
        dimse_timeout_s=config.dicom.dimse_timeout_s,
    )

    # threads: writing never waits behind reading, queries never behind either
    writing = Offload(f"{name}-write", config.storage.threads, config.storage.max_queued)
    reading = Offload(f"{name}-read", config.storage.threads, config.storage.max_queued)
    lanes = [Offload(f"{name}-commit-{number}", 1, config.storage.max_queued) for number in range(COMMITS)]
    asking = Offload(f"{name}-query", 4, 256)
    keeping = Offload(f"{name}-upkeep", 1, 8)
    processes = ProcessPool(CONVERTERS, 64)

    # the PACS database and the file servers
    database = Database(config.database_url)
    index, jobs, peers = PacsIndex(database), JobQueue(database), PeerTable(database)
    pools = Pools([pool_of(pool) for pool in config.storage.pools])
    files = FileServer(pools)
    converter = ProcessConverter(pools, processes, config.state / "scratch" / name)

    # what a PACS does
    ingest = Ingest(
        files, index, writing, watch, time.time,
        lanes=lanes, rule=ConflictRule(config.dicom.on_conflict), limits=Limits(), observer=observe.stored,
    )  # fmt: skip
    network = Network(reactor, reading, settings)
    destinations = Destinations(network, config.site.ae_title)
    reporter = CommitmentReporter(
        index, files, jobs, peers, reading, destinations,
        ae_title=config.site.ae_title, clock=time.time, owner=f"{name}-{time.time_ns()}",
    )  # fmt: skip
    services = Services(
        {
            dimse.C_ECHO_RQ: echo,
            dimse.C_FIND_RQ: Find(index, asking, ae_title=config.site.ae_title, limit=config.dicom.query_limit),
            dimse.C_GET_RQ: Get(index, files, reading, converter, reactor),
            dimse.C_MOVE_RQ: Move(index, files, peers, reading, converter, destinations),
            dimse.N_ACTION_RQ: Commitment(jobs, asking, reporter, time.time),
        },
        Store(ingest, lambda association, context: _admit(pools)),
    )

    # the port
    admission = Admission(
        ae_titles=frozenset(config.called_ae_titles),
        storage_classes=frozenset(STORAGE_SOP_CLASSES),
        any_called_ae=config.dicom.any_called_ae,
        unknown_peers=config.dicom.unknown_peers,
        accept_any_sop_class=config.dicom.accept_any_sop_class,
        max_associations=config.dicom.max_associations,
        max_associations_per_peer=config.dicom.max_associations_per_peer,
        async_operations=config.dicom.async_operations,
        settings=settings,
    )
    acceptor = Acceptor(
        admission, services, peers.get, asking, reading, reactor,
        lambda full: _limit(listener, full=full, shared=config.dicom.workers > 1),
    )  # fmt: skip
    listener = Listener("dicom", acceptor, config.dicom.bind, config.dicom.port, reactor, reuse_port=worker > 0)

    def stop_threads(limit_s: float) -> Awaitable[object]:
        offloads = (writing, *lanes, reading, asking, keeping)
        return Deferred.fromCoroutine(_stop_all(offloads, limit_s, reactor.callLater))

    return Role(
        name,
        [
            Step("database", stop=lambda _: database.close()),
            Step("processes", stop=lambda _: processes.stop()),
            Step("threads", stop=stop_threads),
            Upkeep(files, index, ingest, keeping, reactor, converter.prepare),
            reporter,
            Step("associations", stop=acceptor.drain),
            listener,
        ],
        call_later=reactor.callLater,
    )


def watch(awaited: Awaitable[object], done: Callable[[object], None]) -> None:
    """Port `workflow.ingest.Watch` for Deferreds."""

    def crashed(failure: Failure) -> None:
        log.error("ingest-crashed", error=failure.value)

    deferred = cast("Deferred[object]", awaited)
    deferred.addCallbacks(done, lambda failure: done(failure.value)).addErrback(crashed)


def _admit(pools: Pools) -> PacsError | None:
    return None if pools.writable() else OutOfResources("no pool can take objects now")


def _limit(listener: Listener, *, full: bool, shared: bool) -> None:
    """A process at its limit leaves new connections to the others on the port; a lone one rejects them by name."""
    if not shared:
        return
    if full:
        listener.pause()
    else:
        listener.resume()


async def _stop_all(offloads: Sequence[Offload], limit_s: float, call_later: Callable[..., object]) -> None:
    for offload in offloads:
        await offload.stop(limit_s, call_later)
