"""Suggests the known word that a mistyped one was meant to be.  Pure."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was probably meant to be."""
    # Imported only once something is wrong: the master has no use for it.
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "count"?``, or "" where nothing is near."""
    found = nearest(word, known)
    return f'; did you mean "{found}"?' if found else ""
