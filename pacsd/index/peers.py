"""Registered DICOM peers (port `Peers`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from pacsd.index.database import Database
from pacsd.index.schema import PEER
from pacsd.index.text import clean
from pacsd.model.errors import PacsError
from pacsd.model.objects import Peer

MAX_AE_CHARS = 16


class PeerRefused(PacsError):
    """What was given can't be a peer."""

    http_status = 400


class PeerTable:
    """The peers of a database. Every method blocks and may raise errors.OutOfResources; any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ae_title: str) -> Peer | None:
        """The peer of an AE title; padding doesn't count, case does (PS3.5 §6.2)."""
        statement = select(PEER).where(PEER.c.ae_title == clean(ae_title).strip())
        return self._database.read(lambda c: next((_peer(row) for row in c.execute(statement)), None))

    def all(self) -> Iterator[Peer]:
        """All peers by title."""
        statement = select(PEER).order_by(PEER.c.ae_title)
        return iter(self._database.read(lambda c: [_peer(row) for row in c.execute(statement)]))

    def add(self, peer: Peer) -> Peer:
        """Register a peer, or give a registered one new values; returns it as it is kept.

        Raises: PeerRefused: no AE title (PS3.5 §6.2: 1 to 16 printable ASCII characters, no backslash),
        host or port.
        """
        peer = _validated(peer)
        values = asdict(peer)

        def put(connection: Connection) -> None:
            if not connection.execute(update(PEER).where(PEER.c.ae_title == peer.ae_title).values(values)).rowcount:
                connection.execute(PEER.insert().values(values))

        self._database.write(put)
        return peer

    def remove(self, ae_title: str) -> bool:
        """Forget a peer; False when there was none."""
        statement = delete(PEER).where(PEER.c.ae_title == clean(ae_title).strip())
        return self._database.write(lambda c: c.execute(statement).rowcount > 0)


def _validated(peer: Peer) -> Peer:
    title = peer.ae_title.strip()
    if not 1 <= len(title) <= MAX_AE_CHARS or not title.isascii() or not title.isprintable() or "\\" in title:
        raise PeerRefused("an AE title has 1 to 16 printable ASCII characters and no backslash")
    host = peer.host.strip()
    if not host or any(character.isspace() for character in host):
        raise PeerRefused("a host name or address is needed")
    if not 1 <= peer.port <= 65_535:
        raise PeerRefused("a port is a number from 1 to 65535")
    if peer.max_associations < 0 or peer.bytes_per_s < 0:
        raise PeerRefused("limits can't be negative")
    return replace(peer, ae_title=title, host=host, description=clean(peer.description))


def _peer(row: Any) -> Peer:
    return Peer(row.ae_title, row.host, row.port, row.description, row.max_associations, row.bytes_per_s)
