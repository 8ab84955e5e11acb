"""User and groups of the daemon, as they are looked up."""

from __future__ import annotations

import os
import pwd

import pytest

from taskqd.errors import ConfigError
from taskqd.settings import ProcessSettings
from taskqd.supervisor.cli import privileges
from taskqd.supervisor.cli.privileges import resolve


def test_what_is_not_said_stays_as_it_is() -> None:
    identity = resolve(ProcessSettings())
    assert (identity.uid, identity.gid, identity.groups, identity.umask) == (None, None, (), None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_user_brings_its_group_and_its_supplementary_groups() -> None:
    account = pwd.getpwnam("nobody")
    for name in ("nobody", str(account.pw_uid)):
        identity = resolve(ProcessSettings(user=name))
        assert (identity.uid, identity.gid) == (account.pw_uid, account.pw_gid)
        assert set(identity.groups) == set(os.getgrouplist("nobody", account.pw_gid))


def test_only_root_may_become_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 65534)
    monkeypatch.setattr(privileges.os, "getegid", lambda: 65534)
    with pytest.raises(ConfigError, match="only root can become another user"):
        resolve(ProcessSettings(user="root"))
    with pytest.raises(ConfigError, match="only root can change the group"):
        resolve(ProcessSettings(group="root"))
    assert resolve(ProcessSettings(user="nobody")).uid == 65534
