"""The lines of keys in a TOML text, which tomllib does not tell."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from taskqd.config.source import line_of_keys

TEXT = '''\
# comment with [brackets] and key = "value"
app = "a:b" # a comment = 1

[workers]
"count" = 3
  max_memory = """
several = 1
[lines]
"""
'type' = \'\'\'
quoted = 2\'\'\'

[queues] # why
names = [
  "a", # first ]
  "b,]",
]
weights = { a = 1, "b" = { c = [1, {d = 2}] } }
shutdown.grace_s = 1e3
[limits . inner]
odd = "esc\\"aped = 1"
when = 1979-05-27T07:32:00Z
[[many]]
x = 1
[[many]]
y = 2
'''


def test_every_key_has_the_line_on_which_it_stands() -> None:
    tomllib.loads(TEXT)
    lines = line_of_keys(TEXT)
    by_dots = {".".join(path): line for path, line in lines.items()}
    assert by_dots == {
        "app": 2,
        "workers": 4,
        "workers.count": 5,
        "workers.max_memory": 6,
        "workers.type": 10,
        "queues": 13,
        "queues.names": 14,
        "queues.weights": 18,
        "queues.weights.a": 18,
        "queues.weights.b": 18,
        "queues.weights.b.c": 18,
        "queues.weights.b.c.d": 18,
        "queues.shutdown": 19,
        "queues.shutdown.grace_s": 19,
        "limits": 20,
        "limits.inner": 20,
        "limits.inner.odd": 21,
        "limits.inner.when": 22,
        "many": 23,
        "many.x": 24,
        "many.y": 26,
    }


VALUES = st.sampled_from(
    [
        "1",
        "-2.5",
        "true",
        '"a = 1"',
        "'x'",
        '"""\nk = 1\n"""',
        "[]",
        "[1,\n2]",
        "{ a = 1 }",
        "[[1], {b = 2}]",
    ]
)


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_whatever_the_values_the_keys_keep_their_lines(values: list[str]) -> None:
    text, expected = "", {}
    for number, value in enumerate(values):
        expected[f"key{number}",] = text.count("\n") + 1
        text += f"key{number} = {value}\n"
    tomllib.loads(text)
    lines = line_of_keys(text)
    assert {path: lines[path] for path in expected} == expected
