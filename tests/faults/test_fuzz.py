"""Spoiled PDUs and data sets over sockets: no hang, no word of our inside to the peer, no growth of memory."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.crash.made import make
from tests.crash.sender import FIND_CONTEXT, STORE_CONTEXT, SUCCESS, Lost, Scu
from tests.databases import PostgreSQL, private_postgresql
from tests.faults import hostile
from tests.faults.processes import rss_bytes
from tests.interop.objects import CT, element, nested
from tests.live import Site

pytestmark = [pytest.mark.crash, pytest.mark.slow]

CORPUS = sorted(Path(__file__).with_name("fuzz").glob("*.bin"))
WIRE_CORPUS = sorted((Path(__file__).parent.parent / "dicom" / "wire" / "fuzz").glob("*.bin"))
OURS = (b"Traceback", b".py", b"Error:", b"Exception", b"pacsd/", b"sqlite", b"SELECT")
N_ROUNDS = 2000
MOST_GROWTH_BYTES = 8 << 20
UNHURRIED = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("fuzz") / "site") as running:
        yield running
        crashed = [event for event in running.events() if "crashed" in str(event.get("event"))]
        assert not crashed, crashed[:3]


def address(site: Site) -> tuple[str, int]:
    return site.host, site.dicom_port


def told_nothing_of_us(answer: bytes) -> bool:
    return not any(word in answer for word in OURS)


def serves(site: Site) -> None:
    """C-ECHO within two seconds."""
    start = time.monotonic()
    with Scu(address(site), timeout_s=2.0) as scu:
        assert scu.echo() == SUCCESS
        scu.release()
    assert time.monotonic() - start < 2.0


@pytest.mark.parametrize("path", CORPUS + WIRE_CORPUS, ids=lambda path: path.stem)
@pytest.mark.parametrize("associated", [False, True])
def test_saved_bytes_harm_nobody(site: Site, path: Path, associated: bool) -> None:
    start = [hostile.REQUEST] if associated else []
    assert told_nothing_of_us(hostile.talk(address(site), [*start, path.read_bytes()]))
    serves(site)


@UNHURRIED
@given(data=st.binary(max_size=400))
def test_any_bytes_instead_of_an_association_are_ended_at_once(site: Site, data: bytes) -> None:
    assert told_nothing_of_us(hostile.talk(address(site), [data]))


@UNHURRIED
@given(
    pdus=st.lists(
        st.builds(
            lambda kind, body, length: bytes((kind, 0)) + (len(body) + length).to_bytes(4) + body,
            st.integers(0, 9), st.binary(max_size=80), st.sampled_from([0, 0, 0, 1, 100]),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_any_pdus_on_an_association_are_ended_at_once(site: Site, pdus: list[bytes]) -> None:
    assert told_nothing_of_us(hostile.talk(address(site), [hostile.REQUEST, *pdus]))


@UNHURRIED
@given(fields=st.dictionaries(st.integers(0, 0x1040), st.binary(max_size=20), max_size=8), with_data=st.booleans())
def test_any_command_set_is_answered_or_ended(site: Site, fields: dict[int, bytes], with_data: bool) -> None:
    from struct import pack

    raw = b"".join(pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted(fields.items()))
    pieces = [hostile.REQUEST, pack(">BxIIBB", 4, len(raw) + 6, len(raw) + 2, STORE_CONTEXT, 3) + raw]
    if with_data:
        pieces.append(pack(">BxIIBB", 4, 10, 6, STORE_CONTEXT, 2) + b"data")
    assert told_nothing_of_us(hostile.talk(address(site), pieces))


@UNHURRIED
@given(identifier=st.binary(max_size=200))
def test_any_identifier_has_its_answer(site: Site, identifier: bytes) -> None:
    with Scu(address(site), timeout_s=3.0) as scu:
        scu.send_raw(hostile.command(FIND_CONTEXT, 0x0020, "1.2.840.10008.5.1.4.1.2.2.1", identifier))
        answer, _ = scu.answer()
        assert told_nothing_of_us(str(answer).encode())


def test_thousands_of_spoiled_conversations_cost_no_memory(site: Site) -> None:
    chance = random.Random(31)
    good = hostile.conversations()

    def round_of(n: int) -> None:
        for number in range(n):
            spoiled = hostile.mutated(chance.choice(good), chance)
            assert told_nothing_of_us(hostile.talk(address(site), [spoiled]))
            if number % 100 == 0:
                serves(site)

    round_of(N_ROUNDS)
    before = rss_bytes(site.pid)
    round_of(2 * N_ROUNDS)
    assert rss_bytes(site.pid) - before < MOST_GROWTH_BYTES


def spoiled_datasets(n: int) -> Iterator[bytes]:
    """Data sets as no standard wants them."""
    chance = random.Random(32)
    yield b""
    yield b"\0"
    yield nested(1200)
    yield nested(30_000)
    yield nested(30_000)[:300_000]
    yield element(0x00100010, b"PN", b"\x1b$B" + bytes(range(128, 256)))
    yield element(0x00080005, b"CS", b"ISO 2022 IR 999\\\\") + element(0x00100010, b"PN", b"A^B=\xff\xfe=\0\0\0")
    yield element(0x0020000D, b"UI", b"1.2\0\0" + b"9" * 200) + element(0x0020000E, b"UI", b"\xff\xff' OR 1=1")
    yield element(0x00100020, b"LO", bytes(range(32))) + element(0x00100010, b"PN", b"^" * 60_000)
    for number in range(n):
        yield hostile.mutated(make(950, number, 40).data, chance)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    yield from private_postgresql()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def either_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    sqlite = request.param == "sqlite"
    url = None if sqlite else request.getfixturevalue("postgresql").new_database()
    with Site(tmp_path / "site", database=url) as running:
        yield running


def test_a_data_set_is_never_refused_for_its_content_and_still_found(either_site: Site) -> None:
    site = either_site
    refused = []
    with Scu(address(site), timeout_s=10.0) as scu:
        for number, data in enumerate(spoiled_datasets(400)):
            uid = f"1.2.950.{number}"
            status = scu.store_pieces(uid, [data])
            if status != SUCCESS:
                refused.append((number, f"{status:04X}", data[:200]))
        assert not refused, refused[:5]
        scu.release()
    serves(site)
    with Scu(address(site), timeout_s=10.0) as scu:
        assert scu.find("STUDY", StudyInstanceUID="", PatientName="", ModalitiesInStudy="")
        scu.release()


def test_a_peer_that_breaks_off_within_a_message_again_and_again_leaves_nothing(site: Site) -> None:
    chance = random.Random(33)
    item = make(960, 1, 400_000)
    whole = hostile.REQUEST + hostile.store(item.uid, item.data)
    for _ in range(40):
        cut = chance.randrange(len(hostile.REQUEST), len(whole) - 100)
        hostile.talk(address(site), [whole[:cut]])
    from tests.crash import checker

    checker.wait_until_no_parts(site)
    assert checker.index_of(site).n_rows(item.uid) == 0
    serves(site)


def test_a_message_in_a_context_that_was_not_accepted_ends_the_association(site: Site) -> None:
    with Scu(address(site), timeout_s=2.0) as scu:
        scu.send_raw(hostile.command(99, 0x0030, CT))
        with pytest.raises(Lost):
            scu.answer()
    serves(site)
