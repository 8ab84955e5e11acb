"""Jobs in Redis or Valkey: for several hosts, with or without an append-only file."""

from taskqd.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
