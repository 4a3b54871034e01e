"""Patterns match as the standard says, in a time that the peer can't blow up."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.wildcard import MAX_PATTERN_CHARS, PatternRefused, Wildcard, literal_prefix


@given(st.text("ab*?.", max_size=12), st.text("ab.\n", max_size=12))
def test_patterns_match_like_a_shells(pattern: str, text: str) -> None:
    assert Wildcard(pattern).matches(text) is fnmatch.fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["[a]", "a.c", "a\\", "(a+)+"])
def test_nothing_but_star_and_question_mark_is_special(pattern: str) -> None:
    assert Wildcard(pattern).matches(pattern)
    assert not Wildcard(pattern).matches("abc")


@pytest.mark.parametrize("pattern", ["*a" * 500 + "b", "*?a" * 340 + "b", "?" * 500 + "*" + "a?" * 200 + "b"])
def test_a_hostile_pattern_against_a_long_text_ends_soon(pattern: str) -> None:
    started = time.perf_counter()
    assert not Wildcard(pattern).matches("a" * 1_000_000)
    assert time.perf_counter() - started < 0.5


def test_an_oversize_pattern_is_refused() -> None:
    with pytest.raises(PatternRefused):
        Wildcard("*" * (MAX_PATTERN_CHARS + 1))


@pytest.mark.parametrize(("pattern", "prefix"), [("ab*c", "ab"), ("a?c", "a"), ("abc", "abc"), ("*", "")])
def test_the_literal_prefix_ends_before_the_first_wildcard(pattern: str, prefix: str) -> None:
    assert literal_prefix(pattern) == prefix
