from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pacsd.config.load import parse
from pacsd.storage.pool import Pool
from pacsd.web.health import Readyz
from pacsd.web.service import find_writable_pool


class FakeRequest:
    """Remembers what is set on it."""

    def __init__(self) -> None:
        self.code = 200
        self.headers: dict[bytes, bytes] = {}

    def setResponseCode(self, code: int) -> None:
        self.code = code

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value


def ask(readyz: Readyz) -> tuple[FakeRequest, list[Any]]:
    request, out = FakeRequest(), []
    Deferred.fromCoroutine(readyz.body(request)).addBoth(out.append)
    return request, out


def test_all_checks_well_is_ready():
    request, (body,) = ask(Readyz({"a": lambda: succeed(""), "b": lambda: succeed("")}, Clock()))
    assert (request.code, json.loads(body)) == (200, {"status": "ready", "checks": {"a": "ok", "b": "ok"}})


def test_one_check_that_finds_something_is_a_problem_that_names_it():
    request, (body,) = ask(Readyz({"a": lambda: succeed("full"), "b": lambda: succeed("")}, Clock()))
    assert request.code == 503
    assert request.headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["detail"] == "a: full"


def test_a_check_that_fails_tells_its_kind_and_not_its_text():
    request, (body,) = ask(Readyz({"a": lambda: fail(ValueError("Doe^John"))}, Clock()))
    assert (request.code, b"ValueError" in body, b"Doe" in body) == (503, True, False)


def test_a_check_that_hangs_has_failed_after_its_limit():
    clock = Clock()
    request, out = ask(Readyz({"a": Deferred}, clock, limit_s=5))
    assert out == []
    clock.advance(5)
    assert len(out) == 1
    assert request.code == 503


def test_the_outcome_is_kept_for_a_second_however_many_ask():
    clock, asked = Clock(), []
    readyz = Readyz({"a": lambda: succeed(asked.append(1) or "")}, clock)
    for _ in range(5):
        ask(readyz)
    assert len(asked) == 1
    clock.advance(1)
    ask(readyz)
    assert len(asked) == 2


@pytest.fixture
def site(tmp_path):
    def make(*pools: dict[str, Any]):
        return parse({"storage": {"pools": list(pools)}}, tmp_path / "pacsd.toml")

    Pool("a", tmp_path / "a").create()
    return make


def test_a_pool_that_takes_objects_is_enough(site, tmp_path):
    before = sorted((tmp_path / "a").iterdir())
    assert (
        find_writable_pool(
            site({"name": "gone", "path": "gone"}, {"name": "a", "path": "a", "high_water_percent": 100})
        )
        == ""
    )
    assert sorted((tmp_path / "a").iterdir()) == before, "the trial leaves nothing behind"


@pytest.mark.parametrize(
    ("pools", "wrong"),
    [
        ([], "no pool is configured"),
        ([{"name": "a", "path": "a", "read_only": True}], "every pool is read-only"),
        ([{"name": "a", "path": "gone"}], "pool a: No such file or directory"),
        ([{"name": "a", "path": "a", "high_water_percent": 1, "low_water_percent": 0}], "pool a is "),
    ],
)
def test_without_one_it_is_said_why(site, pools, wrong):
    assert find_writable_pool(site(*pools)).startswith(wrong)
