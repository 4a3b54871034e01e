"""Person names: groups, components, folded forms to search by, and matching, plain and fuzzy (PS3.5 §6.2.1).

    alphabetic=ideographic=phonetic, each: family^given^middle^prefix^suffix

Plain matching ignores case and asks component by component; fuzzy matching (PS3.4 §C.2.2.2.1.1) ignores order,
diacritics and spelling that sounds alike. Pure functions, any thread.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from pacsd.model.wildcard import Wildcard, has_wildcard, literal_prefix

N_GROUPS = 3
_PLAIN_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "ø": "o",
        "ł": "l",
        "æ": "ae",
        "œ": "oe",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "ħ": "h",
    }
)
_DROPPED = str.maketrans("", "", "'`\N{ACUTE ACCENT}\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}.")
_BETWEEN_TOKENS = re.compile(r"[\s^=,;_/\\\N{HYPHEN}\N{EN DASH}-]+")


class NameForms(NamedTuple):
    """The folded groups of a name; '' where a group is absent."""

    alphabetic: str
    ideographic: str
    phonetic: str


class FuzzyToken(NamedTuple):
    """One word of a fuzzy query.

    Attributes:
        word: folded, without diacritics; may hold wildcards.
        code: how it sounds, in capitals; '' for a pattern, the word itself where no code exists.
        prefix: the part of a pattern before its first wildcard; the word itself otherwise.
    """

    word: str
    code: str
    prefix: str

    def matches(self, tokens: frozenset[str]) -> bool:
        """Whether a stored name's `tokens` hold this word or one that sounds like it."""
        if not self.code:
            wildcard = Wildcard(self.word)
            return any(wildcard.matches(token) for token in tokens)
        return self.word in tokens or self.code in tokens


def fold(text: str) -> str:
    """Text as names are compared: case folded, NFC, single spaces, without empty components at the end."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    if " " in folded or not folded.isprintable():
        folded = "^".join([" ".join(component.split()) for component in folded.split("^")])
    return folded.rstrip("^ \0")


def search_forms(name: str) -> NameForms:
    """The groups of a PN value, folded."""
    if "=" not in name:
        return NameForms(fold(name), "", "")
    groups = [fold(group) for group in name.split("=", N_GROUPS - 1)]
    return NameForms(groups[0], groups[1], groups[2].rstrip("=") if len(groups) == N_GROUPS else "")


def tokens(name: str) -> frozenset[str]:
    """Words of all groups, without diacritics (lower case), and what they sound like (capitals)."""
    words = _words(name)
    return frozenset(words) | {_code(word) for word in words}


def fuzzy_tokens(query: str) -> tuple[FuzzyToken, ...]:
    """The words of a fuzzy query, each once; () when it asks for nothing."""
    found: dict[str, FuzzyToken] = {}
    for word in _words(query):
        if not word.strip("*?"):
            continue
        if has_wildcard(word):
            found[word] = FuzzyToken(word, "", literal_prefix(word))
        else:
            found[word] = FuzzyToken(word, _code(word), word)
    return tuple(found.values())


def fuzzy_match(query: str, stored: str) -> bool:
    """Whether each word of the query is, or sounds like, some word of the stored name, in any order."""
    held = tokens(stored)
    return all(token.matches(held) for token in fuzzy_tokens(query))


class NamePattern:
    """A compiled query for person names: case-insensitive, by component, in one group or in each given one.

    Missing and empty components of the query match anything. A query of one group may match in any group; one
    of several must match in each that it names. A pattern with wildcards and without '^' is also tried over the
    whole group, so that `*JOHN` finds SMITH^JOHN.
    """

    __slots__ = ("_groups", "prefix")

    def __init__(self, query: str) -> None:
        forms = search_forms(query)
        self._groups = tuple((at, _Group(form)) for at, form in enumerate(forms) if form)
        self._groups = tuple(pair for pair in self._groups if not pair[1].is_universal)
        if "=" not in query:
            self._groups = tuple((-1, group) for _, group in self._groups)
        self.prefix = self._groups[0][1].prefix if self._groups else ""
        """What some folded group of every matching name begins with."""

    @property
    def is_universal(self) -> bool:
        """Whether every name matches."""
        return not self._groups

    def matches(self, stored: str) -> bool:
        """Whether the stored PN value matches."""
        forms = search_forms(stored)
        for at, group in self._groups:
            if at < 0:
                if not any(form and group.matches(form) for form in forms):
                    return False
            elif not forms[at] or not group.matches(forms[at]):
                return False
        return True


class _Group:
    __slots__ = ("_components", "_whole", "is_universal", "prefix")

    def __init__(self, form: str) -> None:
        components = form.split("^")
        self._components = tuple((at, Wildcard(text)) for at, text in enumerate(components) if text.strip("*"))
        self.is_universal = not self._components
        self._whole = Wildcard(form) if "^" not in form and has_wildcard(form) else None
        literal = []
        for text in components:
            if not text or has_wildcard(text):
                literal.append(literal_prefix(text))
                break
            literal.append(text)
        self.prefix = "^".join(literal).rstrip("^")

    def matches(self, form: str) -> bool:
        stored = form.split("^")
        n_stored = len(stored)
        if all(wildcard.matches(stored[at] if at < n_stored else "") for at, wildcard in self._components):
            return True
        return self._whole is not None and self._whole.matches(form)


def _words(name: str) -> list[str]:
    plain = name.casefold().translate(_PLAIN_LETTERS).translate(_DROPPED)
    if not plain.isascii():
        decomposed = unicodedata.normalize("NFKD", plain)
        plain = "".join([mark for mark in decomposed if not "\u0300" <= mark <= "\u036f"])
        plain = unicodedata.normalize("NFKC", plain).translate(_PLAIN_LETTERS)
    return [word for word in _BETWEEN_TOKENS.split(plain) if word]


@lru_cache(maxsize=4096)
def _code(word: str) -> str:
    """How a word of Latin letters sounds; the word itself in other scripts, and where nothing sounds."""
    if not (word.isascii() and word.isalpha()):
        return word
    from jellyfish import metaphone

    return str(metaphone(word[:64])).upper().replace(" ", "") or word
