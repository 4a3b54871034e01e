"""A patient's name as the index searches for it."""

from __future__ import annotations

from pacsd.index.schema import MAX_FORM_CHARS
from pacsd.index.text import clean
from pacsd.model import names

MAX_TOKENS = 256


def name_forms(name: str) -> set[str]:
    """The folded groups of a PN value, cut to what the index holds; none for an empty name."""
    if not name:
        return set()
    forms = names.search_forms(name)
    groups = (forms.alphabetic, forms.ideographic, forms.phonetic)
    return {clean(group)[:MAX_FORM_CHARS] for group in groups if group}


def name_tokens(name: str) -> set[str]:
    """Words and phonetic codes of a PN value, at most `MAX_TOKENS` of them."""
    if not name:
        return set()
    return {clean(token)[:MAX_FORM_CHARS] for token in sorted(names.tokens(name))[:MAX_TOKENS] if token}
