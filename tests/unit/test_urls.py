"""A URL is never shown with its password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.urls import has_secret, mask_url, scheme_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:pw@host", "redis://user:***@host"),
        ("rediss://user:p@w:d/x@host/1", "rediss://user:***@host/1"),
        ("redis://pw@host", "redis://***@host"),
        ("redis:/:pw@host", "redis:/:***@host"),
        (
            "redis+sentinel://u:pw@h1:26379,h2/mymaster/0",
            "redis+sentinel://u:***@h1:26379,h2/mymaster/0",
        ),
        ("unix:///run/redis.sock?password=pw&db=1", "unix:///run/redis.sock?password=***&db=1"),
        ("redis://h?sentinel_password=pw", "redis://h?sentinel_password=***"),
        ("sqlite:////data/a@b:c.db", "sqlite:////data/a@b:c.db"),
        ("memory://", "memory://"),
        ("not a url", "not a url"),
        ('re"dis://user:pw@host', 're"dis://user:***@host'),
        ("pw@host", "***@host"),
    ],
)
def test_passwords_are_masked_and_nothing_else(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    assert has_secret(url) == (url != shown)


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1),
    st.sampled_from(["", "user"]),
)
def test_whatever_the_password_it_is_hidden(password: str, user: str) -> None:
    assert mask_url(f"redis://{user}:{password}@host/0") == f"redis://{user}:***@host/0"


@pytest.mark.parametrize(("url", "scheme"), [("REDIS://h", "redis"), ("/a/path", ""), ("", "")])
def test_scheme(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme
