"""What `pacsd peer` does on the network: echo, find, pull, send, in a reactor of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from pacsd.cli.peer import say
from pacsd.config.sections import Config
from pacsd.dicom.association import Association, AssociationLost, AssociationRejected, AssociationSettings, DimseTimeout
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scp.store import Store
from pacsd.dicom.scu import echo, find, retrieve
from pacsd.dicom.scu.connect import ConnectFailed, Network, Proposal, Target, connect
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.scu.files import Files
from pacsd.dicom.scu.store import Delivery, Result
from pacsd.dicom.service import watch
from pacsd.dicom.storage_classes import STORAGE_SOP_CLASSES
from pacsd.index.database import Database
from pacsd.index.pacs_index import PacsIndex
from pacsd.model.attributes import QUERY_RETRIEVE_LEVEL, SOP_CLASSES_IN_STUDY
from pacsd.model.dataset import Dataset, Element
from pacsd.model.dictionary import keyword_of
from pacsd.model.objects import ConflictRule, Peer
from pacsd.model.query import Root, Selector
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, TRANSFER_SYNTAXES
from pacsd.runtime.offload import Offload
from pacsd.runtime.once import Interrupted, run_once
from pacsd.storage.pool import pool_of
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from pacsd.workflow.ingest import Ingest
from pacsd.workflow.retrieve import Instances, Source

STUDY_INSTANCE_UID: Final = 0x0020000D
USUAL_KEYS: Final = {
    "PATIENT": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "STUDY": ("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy",
              "StudyDescription", "NumberOfStudyRelatedInstances", "StudyInstanceUID"),
    "SERIES": ("StudyInstanceUID", "Modality", "SeriesNumber", "SeriesDescription",
               "NumberOfSeriesRelatedInstances", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}  # fmt: skip
_UNAVAILABLE: Final = (ConnectFailed, AssociationRejected, AssociationLost, DimseTimeout, find.QueryFailed)


@dataclass(slots=True)
class Call:
    """One call: what was asked for, and what it needs."""

    args: argparse.Namespace
    config: Config
    database: Database
    peer: Peer
    network: Network = field(init=False)

    @property
    def title(self) -> str:
        """Ours."""
        return self.config.site.ae_title

    async def connect(self, proposals: Sequence[Proposal], services: Services | None = None) -> Association:
        """Raises ConnectFailed, AssociationRejected, AssociationLost."""
        target = Target(self.peer.host, self.peer.port, self.peer.ae_title)
        return await connect(self.network, target, self.title, proposals, services=services)

    def answer(self, told: dict[str, Any] | list[Any], text: str) -> None:
        """Print the answer as the one who asked wants it."""
        print(json.dumps(told) if self.args.json else text)

    def pools(self) -> Pools:
        """This site's file servers."""
        return Pools([pool_of(pool) for pool in self.config.storage.pools])


def run(action: str, call: Call) -> int:
    """Run one call in the reactor; returns the exit status."""

    async def main(reactor: Any) -> int:
        dicom = call.config.dicom
        settings = AssociationSettings(
            dicom.max_pdu_length_bytes, artim_s=dicom.artim_s, dimse_timeout_s=dicom.dimse_timeout_s
        )
        call.network = Network(reactor, Offload("peer", 4, 256), settings)
        try:
            return await ACTIONS[action](call)
        except _UNAVAILABLE as error:
            say(f"{call.peer.ae_title}: {error}")
            return os.EX_UNAVAILABLE

    try:
        return run_once(main)
    except Interrupted:
        return 130


async def call_echo(call: Call) -> int:
    """C-ECHO."""
    started_s = time.perf_counter()
    association = await call.connect([echo.PROPOSAL])
    status = await echo.echo(association)
    took_ms = round((time.perf_counter() - started_s) * 1e3, 1)
    await association.release()
    alive = "is alive" if status == 0 else f"answers status {status:04X}"
    call.answer(
        {"ae_title": call.peer.ae_title, "status": status, "took_ms": took_ms},
        f"{call.peer.ae_title} {alive} ({took_ms} ms)",
    )
    return os.EX_OK if status == 0 else os.EX_UNAVAILABLE


async def call_find(call: Call) -> int:
    """C-FIND."""
    args = call.args
    wanted = dict.fromkeys(USUAL_KEYS[args.level], "") if not args.keys else {}
    wanted.update(key.partition("=")[::2] for key in args.keys)
    try:
        identifier = Dataset.from_keywords(**{keyword: value or None for keyword, value in wanted.items()})
    except KeyError as error:
        say(f"{error.args[0]} is no keyword of DICOM")
        return os.EX_USAGE
    identifier[QUERY_RETRIEVE_LEVEL] = Element("CS", (args.level,))
    root = Root.PATIENT if args.level == "PATIENT" else Root.STUDY
    association = await call.connect([find.proposal(root)])
    found = [_named(answer) for answer in await find.find(association, root, identifier, limit=args.limit)]
    await association.release()
    lines = ["  ".join(f"{name}={_plain(value)}" for name, value in answer.items() if value) for answer in found]
    call.answer(found, "\n".join(lines) if lines else "nothing matches")
    return os.EX_OK


def _named(answer: Dataset) -> dict[str, Any]:
    return {
        keyword_of(tag) or f"{tag:08X}": _value(element)
        for tag, element in answer.items()
        if tag != QUERY_RETRIEVE_LEVEL
    }


def _value(element: Element) -> Any:
    values = [_named(value) if isinstance(value, Dataset) else _jsonable(value) for value in element.value]
    return values if len(values) > 1 or element.vr == "SQ" else values[0] if values else ""


def _jsonable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _plain(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)


async def call_pull(call: Call) -> int:
    """C-MOVE to ourselves, or C-GET."""
    identifier = Dataset(
        {QUERY_RETRIEVE_LEVEL: Element("CS", ("STUDY",)), STUDY_INSTANCE_UID: Element("UI", tuple(call.args.study))}
    )
    if call.args.get:
        result = await _get(call, identifier)
    else:
        association = await call.connect([retrieve.move_proposal(Root.STUDY)])
        result = await retrieve.move(association, Root.STUDY, identifier, call.title, _show_retrieved)
        await association.release()
    _end_progress()
    told = {"status": result.status, "completed": result.n_completed, "failed": result.n_failed,
            "warning": result.n_warning, "failed_uids": result.failed_uids, "comment": result.comment}  # fmt: skip
    call.answer(
        told,
        f"{result.n_completed} received, {result.n_failed} failed, {result.n_warning} with warnings: "
        f"status {result.status:04X} {result.comment}".rstrip(),
    )
    if result.is_complete:
        return os.EX_OK
    return os.EX_TEMPFAIL if result.n_completed or result.n_failed else os.EX_UNAVAILABLE


async def _get(call: Call, identifier: Dataset) -> retrieve.Retrieved:
    index, pools = PacsIndex(call.database), call.pools()
    files, writing = FileServer(pools), Offload("store", call.config.storage.threads, call.config.storage.max_queued)
    rule = ConflictRule(call.config.dicom.on_conflict)
    ingest = Ingest(files, index, writing, watch, time.time, rule=rule)
    services = Services(store=Store(ingest, lambda association, context: None))
    try:
        proposals = _get_proposals(await _classes_of(call))
        association = await call.connect(proposals, services)
        result = await retrieve.get(association, Root.STUDY, identifier, _show_retrieved)
        await association.release()
    finally:
        await writing.run(files.close, index.checkpoint)
    return result


async def _classes_of(call: Call) -> list[str]:
    """The SOP classes of the studies, where the peer tells them: they need their own contexts."""
    association = await call.connect([find.proposal(Root.STUDY)])
    asked = Dataset(
        {
            QUERY_RETRIEVE_LEVEL: Element("CS", ("STUDY",)),
            SOP_CLASSES_IN_STUDY: Element("UI"),
            STUDY_INSTANCE_UID: Element("UI", tuple(call.args.study)),
        }
    )
    found = await find.find(association, Root.STUDY, asked)
    await association.release()
    return sorted({uid for answer in found for uid in answer.texts(SOP_CLASSES_IN_STUDY) if uid})


def _get_proposals(classes: Sequence[str]) -> list[Proposal]:
    """Known classes get one context for native syntaxes and one for each compressed one; else the current classes.

    A context carries one syntax, so an object in another must be converted by the peer, or fails.
    """
    native = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    compressed = [uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.encapsulated or syntax.deflated]
    proposals = retrieve.get_proposals(Root.STUDY, classes, native)
    if not classes:
        current = [uid for uid, (_, is_retired) in STORAGE_SOP_CLASSES.items() if not is_retired]
        return retrieve.get_proposals(Root.STUDY, current, (*native, *compressed))
    proposals += [Proposal(uid, (syntax,), scu=False, scp=True) for syntax in compressed for uid in classes]
    return proposals[:128]


async def call_send(call: Call) -> int:
    """C-STORE of studies, then of files."""
    network = call.network
    destinations = Destinations(network, call.title)
    sources: list[Source] = []
    if call.args.study:
        selector = Selector(study_uids=tuple(call.args.study))
        sources.append(Instances(selector, PacsIndex(call.database), FileServer(call.pools()), network.offload))
    if call.args.files:
        sources.append(Files(call.args.files, network.offload))
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        _show(f"{len(results)} sent")

    given_up = ""
    for source in sources:
        delivery = Delivery(source, report, clock=network.reactor, throttle=destinations.throttle(call.peer))
        with closing(delivery):
            given_up = await delivery.to(lambda proposals: destinations.connect(call.peer, proposals)) or given_up
    _end_progress()
    failed = [result for result in results if not result.is_stored]
    told = {
        "stored": len(results) - len(failed),
        "failed": [{"sop_instance_uid": result.sop_instance_uid, "status": result.status, "cause": result.cause}
                   for result in failed],
    }  # fmt: skip
    lines = [f"{told['stored']} stored, {len(failed)} failed"]
    lines += [f"  {result.sop_instance_uid or 'a file'}: {_cause(result)}" for result in failed]
    call.answer(told, "\n".join(lines))
    if not results:
        say("nothing of that is held")
        return os.EX_USAGE
    if given_up and len(failed) == len(results):
        return os.EX_UNAVAILABLE
    return os.EX_TEMPFAIL if failed else os.EX_OK


def _cause(result: Result) -> str:
    status = f"status {result.status:04X} " if result.status is not None else ""
    return (status + result.cause).strip()


def _show_retrieved(progress: retrieve.Retrieved) -> None:
    done = progress.n_completed + progress.n_failed + progress.n_warning
    _show(f"{done} of {done + progress.n_remaining}")


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def _end_progress() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)


ACTIONS: Final[dict[str, Callable[[Call], Awaitable[int]]]] = {
    "echo": call_echo,
    "find": call_find,
    "pull": call_pull,
    "send": call_send,
}
