"""Storage URLs as text: their schemes, and how they are shown without their secrets.

law: a URL goes into a log line, a message, a table or a title only through `mask_url`.  Opening
one is the business of `taskqd.storage`
(test_passwords_are_used_and_never_shown, test_an_unreachable_storage_hides_its_password).
"""

from __future__ import annotations

import re

SCHEMES = (
    "memory",
    "sqlite",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
HIDDEN = "***"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_USER_INFO = re.compile(r"^([^:/@]*:/{0,2}|)(.*)@", re.DOTALL)
_SECRET_OPTION = re.compile(r"(?i)([?&;][^=&;]*(?:password|passwd|secret|token)[^=&;]*=)[^&;#]*")
_WITHOUT_USER = ("memory", "sqlite")
"""Their paths may hold an `@` that ends no password."""


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, "" where there is none."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def mask_url(url: str) -> str:
    """Return `url` with every password in it replaced; a malformed one hides rather too much."""
    hidden = _SECRET_OPTION.sub(rf"\1{HIDDEN}", url)
    if scheme_of(url) in _WITHOUT_USER:
        return hidden
    return _USER_INFO.sub(_mask_user_info, hidden)


def has_secret(url: str) -> bool:
    return mask_url(url) != url


def _mask_user_info(match: re.Match[str]) -> str:
    user, colon, _password = match[2].partition(":")
    # Without a colon it may be a password whose colon was forgotten.
    return f"{match[1]}{user}:{HIDDEN}@" if colon else f"{match[1]}{HIDDEN}@"
