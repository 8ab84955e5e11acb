"""Each test of this folder runs on every storage."""

from tests.contract.conftest import backend

__all__ = ["backend"]
