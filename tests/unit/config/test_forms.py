"""Names of queues, with weights and without."""

from __future__ import annotations

import pytest

from tests.support.configs import load


@pytest.mark.parametrize(
    ("names", "expected", "weights"),
    [
        ("a", ("a",), {}),
        ("a, b", ("a", "b"), {}),
        ("a,b:2", ("a", "b"), {"a": 1, "b": 2}),
        (["a:3", "b"], ("a", "b"), {"a": 3, "b": 1}),
    ],
)
def test_queues_are_a_list_or_text_with_weights(
    names: object, expected: tuple[str, ...], weights: dict[str, int]
) -> None:
    queues = load(queues__names=names).settings.queues
    assert (queues.names, queues.weights) == (expected, weights)
