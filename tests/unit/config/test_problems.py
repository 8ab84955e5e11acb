"""The errors of a configuration read as lines."""

from __future__ import annotations

import pytest

from taskqd.errors import ConfigError
from tests.support.configs import load


def test_config_errors_are_config_errors_and_read_as_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        load(workers__count="0", shutdown__grace_s="-1")
    assert len(str(caught.value).splitlines()) == 2
