"""Jobs in the memory of one process: for tests and `immediate=True`, and the reference model."""

from taskqd.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]
