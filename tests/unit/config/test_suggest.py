"""Suggestions for mistyped words."""

from __future__ import annotations

from taskqd.config.suggest import did_you_mean, nearest


def test_a_near_word_is_suggested_and_a_far_one_is_not() -> None:
    assert nearest("cuont", ["count", "type"]) == "count"
    assert nearest("zzz", ["count", "type"]) is None
    assert did_you_mean("cuont", ["count"]) == '; did you mean "count"?'
    assert did_you_mean("zzz", ["count"]) == ""
