"""The system's epoll, bound before gevent takes it out of the standard library.

A storage's package may be imported behind that; whoever lets gevent patch imports this module first.
"""

from __future__ import annotations

from select import EPOLLIN, epoll

__all__ = ["EPOLLIN", "epoll"]
