"""The privileges that the daemon keeps: its user, its groups and its file mode mask.

law: privileges are given up before anything is opened, so that nothing is held that the user could
not have opened itself (test_the_daemon_and_its_jobs_run_as_the_user_that_was_asked_for).
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from taskqd.errors import ConfigError
from taskqd.settings import ProcessSettings


class Identity(NamedTuple):
    """User, groups and mode mask that the daemon is to have; None: as it was started."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...]
    """Supplementary groups."""
    account: pwd.struct_passwd | None
    umask: int | None


def resolve(wanted: ProcessSettings) -> Identity:
    """Look up the user and group of the settings.

    Raises ConfigError where they do not exist, or where this process may not become them."""
    account = _account(wanted.user) if wanted.user else None
    uid = account.pw_uid if account else None
    gid = _gid(wanted.group) if wanted.group else account.pw_gid if account else None
    _refuse_forbidden(wanted, uid, gid)
    groups: tuple[int, ...] = ()
    if gid is not None:
        groups = tuple(os.getgrouplist(account.pw_name, gid)) if account else (gid,)
    return Identity(uid, gid, groups, account, wanted.umask)


def assume(identity: Identity) -> None:
    """Take on the identity, for good.  Raises ConfigError where the system refuses."""
    if identity.umask is not None:
        os.umask(identity.umask)
    try:
        # law: groups first; without the user's rights they cannot be changed any more
        # (test_the_daemon_and_its_jobs_run_as_the_user_that_was_asked_for).
        if identity.gid is not None and os.geteuid() == 0:
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
        if identity.uid is not None and identity.uid != os.geteuid():
            os.setresuid(identity.uid, identity.uid, identity.uid)
            _at_home(identity)
    except OSError as error:
        raise ConfigError(f"process.user: the system refuses: {error.strerror}") from error


def _at_home(identity: Identity) -> None:
    """Set the environment's variables about the user (HOME, USER, ...) to the new one."""
    account = identity.account
    assert account is not None
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    # That folder belongs to the user who has started the daemon.
    os.environ.pop("XDG_RUNTIME_DIR", None)


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise ConfigError(f'process.user: "{name}": there is no such user on this host') from None


def _gid(name: str) -> int:
    try:
        return (grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)).gr_gid
    except (KeyError, OverflowError):
        raise ConfigError(f'process.group: "{name}": there is no such group on this host') from None


def _refuse_forbidden(wanted: ProcessSettings, uid: int | None, gid: int | None) -> None:
    now = os.geteuid()
    if now == 0:
        return
    remedy = "start it as root, or leave the key out"
    if uid not in (None, now):
        raise ConfigError(
            f'process.user: "{wanted.user}": only root can become another user, this is {now}; {remedy}'
        )
    if gid not in (None, os.getegid()):
        raise ConfigError(
            f'process.group: "{wanted.group}": only root can change the group; {remedy}'
        )
