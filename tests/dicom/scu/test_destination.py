"""What a destination's limits promise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacsd.dicom.dispatch import Services
from pacsd.dicom.scu.destination import Destinations, Throttle
from pacsd.dicom.scu.echo import PROPOSAL
from pacsd.model.objects import Peer
from tests.dicom.fakes import Net, TakingStore


@given(st.lists(st.integers(1, 500_000), min_size=1, max_size=50), st.integers(1_000, 1_000_000))
def test_a_throttle_holds_its_rate_whatever_the_sizes(sizes: list[int], bytes_per_s: int) -> None:
    clock = Clock()
    throttle = Throttle(bytes_per_s, clock)
    for size in sizes:
        clock.advance(throttle.take(size))
    sent_before_last = sum(sizes[:-1])
    assert clock.seconds() >= (sent_before_last - bytes_per_s) / bytes_per_s - 1e-3
    assert clock.seconds() <= sent_before_last / bytes_per_s + 1e-3


def test_an_idle_throttle_saves_up_no_more_than_a_second() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock)
    clock.advance(3600.0)
    assert throttle.take(1000) == 0
    assert throttle.take(1000) == 0
    assert throttle.take(1000) == 1.0


def test_all_that_goes_to_one_peer_shares_its_throttle() -> None:
    destinations = Destinations(Net().network(), "PACSD")
    peer = Peer("A", "h", 104, bytes_per_s=1000)
    assert destinations.throttle(peer) is destinations.throttle(peer)
    assert destinations.throttle(Peer("B", "h", 104, bytes_per_s=1000)) is not destinations.throttle(peer)
    assert destinations.throttle(Peer("A", "h", 104)) is None


def test_slots_are_handed_on_in_turn_and_a_cancelled_wait_costs_none() -> None:
    destinations = Destinations(Net().network(), "PACSD")
    peer = Peer("A", "h", 104, max_associations=1)
    order: list[str] = []
    gates: dict[str, Deferred[None]] = {name: Deferred() for name in "abc"}

    async def hold(name: str) -> None:
        async with destinations.slot(peer):
            order.append(name)
            await gates[name]

    running = {name: Deferred.fromCoroutine(hold(name)) for name in "abc"}
    assert order == ["a"]
    running["b"].addErrback(lambda _: None)
    running["b"].cancel()
    gates["a"].callback(None)
    assert order == ["a", "c"]
    gates["c"].callback(None)
    assert running["c"].called


def test_a_peer_at_its_limit_is_asked_again() -> None:
    net = Net()
    host = net.listen(104, Services(store=TakingStore()), max_associations=1)
    destinations = Destinations(net.network(), "PACSD")
    peer = Peer("A", "h", 104)
    first = net.run(destinations.connect(peer, [PROPOSAL]))
    waiting = Deferred.fromCoroutine(destinations.connect(peer, [PROPOSAL]))
    net.wire.pump()
    assert not waiting.called
    net.run(first.release())
    net.clock.advance(1.0)
    net.wire.pump()
    assert waiting.called
    assert len(host.associations) == 3
