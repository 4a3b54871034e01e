from __future__ import annotations

import pytest

from pacsd.index.database import Database
from pacsd.index.peers import PeerRefused, PeerTable
from pacsd.model.objects import Peer


def test_a_peer_is_found_by_its_title_whatever_the_padding(database: Database) -> None:
    peers = PeerTable(database)
    added = peers.add(Peer(" WS1 ", "10.0.0.5", 104, "Reading room", 2, 1000))
    assert added.ae_title == "WS1"
    assert peers.get("WS1  ") == added
    assert peers.get("ws1") is None
    peers.add(Peer("WS1", "10.0.0.6", 105))
    assert [peer.host for peer in peers.all()] == ["10.0.0.6"]
    assert peers.remove(" WS1")
    assert not peers.remove("WS1")
    assert list(peers.all()) == []


@pytest.mark.parametrize(
    "peer",
    [
        Peer("", "h", 104),
        Peer("   ", "h", 104),
        Peer("A" * 17, "h", 104),
        Peer("A\\B", "h", 104),
        Peer("Ä", "h", 104),
        Peer("A\nB", "h", 104),
        Peer("A", "", 104),
        Peer("A", "a b", 104),
        Peer("A", "h", 0),
        Peer("A", "h", 65536),
        Peer("A", "h", 1, max_associations=-1),
    ],
)
def test_what_cant_be_a_peer_is_refused(database: Database, peer: Peer) -> None:
    with pytest.raises(PeerRefused):
        PeerTable(database).add(peer)
