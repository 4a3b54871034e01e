"""A site with images, a workstation that asks for them, and a receiver."""

from __future__ import annotations

from typing import Any

from pacsd.dicom.association import Association
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scp.get import Get
from pacsd.dicom.scp.move import Move
from pacsd.dicom.scu.connect import Proposal, Target, connect
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.scu.retrieve import Retrieved, get, get_proposals, move, move_proposal
from pacsd.dicom.wire import dimse
from pacsd.model.dataset import Dataset, Element
from pacsd.model.objects import Peer
from pacsd.model.query import Root
from tests.dicom.fakes import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    MemoryConverter,
    MemoryIndex,
    MemoryPeers,
    MemoryStorage,
    Net,
    TakingStore,
)

LEVEL, STUDY_UID = 0x00080052, 0x0020000D


def study(*uids: str) -> Dataset:
    return Dataset({LEVEL: Element("CS", ("STUDY",)), STUDY_UID: Element("UI", uids)})


class Site:
    def __init__(self, **peer: Any) -> None:
        self.net, self.index, self.storage = Net(), MemoryIndex(), MemoryStorage()
        self.converter = MemoryConverter(self.storage)
        self.store = TakingStore()
        self.peers = MemoryPeers(Peer("WS1", "ws", 11113, **peer))
        self.receiver = self.net.listen(11113, Services(store=self.store))
        self.destinations = Destinations(self.net.network(), "PACSD")
        offload, clock = self.net.offload, self.net.clock
        self.pacs = self.net.listen(
            104,
            Services(
                {
                    dimse.C_GET_RQ: Get(self.index, self.storage, offload, self.converter, clock),
                    dimse.C_MOVE_RQ: Move(
                        self.index, self.storage, self.peers, offload, self.converter, self.destinations
                    ),
                }
            ),
        )
        self.progress: list[Retrieved] = []

    def add(self, n: int, **options: Any) -> None:
        for _ in range(n):
            self.index.add(self.storage, f"1.{len(self.index.held)}", **options)

    def connect(self, proposals: list[Proposal], services: Services | None = None) -> Association:
        return self.net.run(
            connect(
                self.net.network(), Target("pacs", 104, "PACSD"), "ASKER", proposals, services=services or Services()
            )
        )

    def get(self, identifier: Dataset, *, classes: tuple[str, ...] = (CT, MR),
            syntaxes: tuple[str, ...] = (EXPLICIT, IMPLICIT), within_s: float = 0.0) -> Retrieved:  # fmt: skip
        """Ask by C-GET; what comes is in `store`."""
        proposals = [
            proposal
            for syntax in syntaxes
            for proposal in get_proposals(Root.STUDY, classes, (syntax,))[0 if syntax == syntaxes[0] else 1 :]
        ]
        association = self.connect(proposals, Services(store=self.store))
        return self.net.run(get(association, Root.STUDY, identifier, self.progress.append), within_s=within_s)

    def move(self, identifier: Dataset, destination: str = "WS1", *, within_s: float = 0.0) -> Retrieved:
        association = self.connect([move_proposal(Root.STUDY)])
        return self.net.run(
            move(association, Root.STUDY, identifier, destination, self.progress.append), within_s=within_s
        )
