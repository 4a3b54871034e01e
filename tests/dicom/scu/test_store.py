"""What sending promises: contexts that fit, each object reported once, the stored syntax where it can be."""

from __future__ import annotations

from pathlib import Path

from pacsd.dicom.dispatch import Services
from pacsd.dicom.scu.connect import Network, Proposal, Target, connect
from pacsd.dicom.scu.files import Files
from pacsd.dicom.scu.store import Delivery, Result
from pacsd.dicom.wire.part10 import encode_file_meta
from tests.dicom.fakes import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    Net,
    TakingStore,
)


def send(net: Net, network: Network, paths: list[Path]) -> list[Result]:
    results: list[Result] = []
    delivery = Delivery(Files(paths, net.offload), results.append, clock=net.clock)

    async def opened(proposals: list[Proposal]) -> object:
        return await connect(network, Target("h", 104, "PACS"), "ME", proposals)

    net.run(delivery.to(opened))  # type: ignore[arg-type]
    return results


def test_files_are_sent_in_their_order_and_each_is_reported_once(tmp_path: Path) -> None:
    net, store = Net(), TakingStore()
    net.listen(104, Services(store=store))
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.dcm"
        meta = encode_file_meta(CT if number % 2 else MR, f"1.{number}", EXPLICIT if number else IMPLICIT)
        path.write_bytes(meta + b"\x08\x00\x60\x00CS\x02\x00CT" + bytes(number * 40_000))
        paths.append(path)
    results = send(net, net.network(), paths)
    assert [result.sop_instance_uid for result in results] == [f"1.{number}" for number in range(5)]
    assert all(result.is_stored and not result.is_warning for result in results)
    assert store.objects[4][2] == b"\x08\x00\x60\x00CS\x02\x00CT" + bytes(160_000)
    assert store.objects[0][1] == IMPLICIT


def test_a_file_that_is_none_fails_alone_with_its_cause(tmp_path: Path) -> None:
    net, store = Net(), TakingStore()
    net.listen(104, Services(store=store))
    good, text, gone = tmp_path / "good", tmp_path / "text", tmp_path / "gone"
    good.write_bytes(encode_file_meta(CT, "1.1", EXPLICIT) + b"\x08\x00\x60\x00CS\x02\x00CT")
    text.write_bytes(b"hello")
    results = send(net, net.network(), [text, gone, good])
    assert [result.is_stored for result in results] == [False, False, True]
    assert all(result.cause and result.status is None for result in results[:2])


def test_nothing_that_can_be_sent_needs_no_association(tmp_path: Path) -> None:
    net = Net()
    (tmp_path / "text").write_bytes(b"hello")
    (result,) = send(net, net.network(), [tmp_path / "text"])
    assert "file" in result.cause


def test_a_refusal_is_reported_with_the_peers_status_and_comment_and_the_rest_goes_on(tmp_path: Path) -> None:
    net, store = Net(), TakingStore()
    net.listen(104, Services(store=store))
    store.statuses = {"1.0": 0xA700, "1.1": 0xB006}
    paths = []
    for number in range(3):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(encode_file_meta(CT, f"1.{number}", EXPLICIT) + b"\x08\x00\x60\x00CS\x02\x00CT")
    results = send(net, net.network(), paths)
    assert [result.status for result in results] == [0xA700, 0xB006, 0x0000]
    assert [result.is_stored for result in results] == [False, True, True]
    assert [result.is_warning for result in results] == [False, True, False]
