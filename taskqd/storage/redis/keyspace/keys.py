"""Names of all keys.  The only maker of them on this side; scripts derive theirs from `Keys.jobs`.

Everything of one queue carries one hash tag, ``{namespace:queue}:``, so that each script stays in
one slot of a cluster.  What belongs to no queue carries ``{namespace}:``.

    jobs            HASH  id -> record, of every waiting and running job
    ready           LIST  ids at priority 0 (what an autoscaler counts); ready:1 .. ready:9
    later           ZSET  id -> due at, ms
    suspects        LIST  ids that run alone
    ghosts          SET   ids with one stale entry in a ready list, to be skipped once
    held:<worker>   HASH  id -> token, with an "s" behind it for a suspect
    receipt:<worker>      tokens settled or released ("r") last; expires
    nodes           ZSET  node -> lease ends at, ms by the server's clock
    info            HASH  node -> `Node` as JSON
    leases, pulse         how long nodes' leases are, and since when this server serves: see pulse.lua
    taken:<node>    HASH  id -> "worker token attempts", of jobs taken while it was silent; expires
    blamed:<node>   LIST  those whose crash stands until it is heard of; expires
    crew:<node>     SET   its workers
    idle            LIST  workers that wait for a job
    gone            ZSET  worker that was recovered, and leases no more -> kept until, ms
    inbox:<worker>  LIST  jobs handed over ("id token LF record"); also in held
    r:<bucket>      HASH  field -> answer; expires with its last answer
    waiters         HASH  id -> waiters, blank between them
    strangers       ZSET  id with waiters that was not known -> waited for until, ms
    noted           SET   ids that have notes
    notes:<id>      HASH  key -> value
    stops           HASH  id -> ttl LF answer, of jobs that were asked to stop
    called          HASH  id -> token of the lease in which its lock got free: not delayed after it
    unique          HASH  key -> id that holds it
    udone           HASH  id -> key that it holds until it ends
    ustart          HASH  id -> key that it holds until it is leased
    group:<name>    HASH  see group.lua; expires
    standing              "change end": number of the change to the standing orders that the queue
                          was told of last, end of the last of them in ms (0: none); expires
    mail:<waiter>   LIST  ids that have ended; expires
    dead            ZSET  id -> died at, ms
    tomb            HASH  id -> reason LF record
    parked          HASH  id -> label under which its letter is parked
    parked:<label>  ZSET  id -> parked at, ms
    labels          SET   every such label
    knows:<node>    SET   labels whose letters its workers lease
    ticks           ZSET  tick -> kept until, ms
    last            HASH  name -> newest tick, ms
    timers          ZSET  sleeping schedulers -> kept until, ms
    alarm:<timer>   LIST  what wakes one of them; expires
    paused                present while paused
    seq                   the last count given: see tokens in ready.lua
    sync                  written so that a repeated enqueue can be waited for; expires

Under the namespace's own tag:

    queues          SET   every queue ever used
    epoch                 the storage's random id
    ticks, last, seq      as above: of ticks without jobs, of locks
    orders, orders-end    see orders.lua; both expire
    schedules       HASH  name -> periodic task made at run time
    rate:<key>      ZSET  starts; told:<key>, see take_rate.lua; both expire
    locks, ttls, owners, lock:<name>, line:<name>, owned:<worker>, gone:<worker>: see locks.lua
"""

from __future__ import annotations

from taskqd.errors import ConfigError
from taskqd.jobs.job import NAME_PATTERN

PRIORITIES = range(9, 0, -1)


def checked(kind: str, name: str) -> str:
    """Return `name`; raises ConfigError where it is not a legal namespace or queue."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r}: expected 1 to 64 letters, digits, dots, hyphens or underscores"
        )
    return name


class Keys:
    """The keys of one queue."""

    __slots__ = ("dead", "info", "jobs", "later", "nodes", "prefix", "queue", "ready", "suspects")

    def __init__(self, namespace: str, queue: str) -> None:
        self.queue = queue
        self.prefix = f"{{{namespace}:{checked('queue', queue)}}}:" if queue else _own(namespace)
        self.jobs = self.prefix + "jobs"
        self.ready = self.prefix + "ready"
        self.later = self.prefix + "later"
        self.suspects = self.prefix + "suspects"
        self.nodes = self.prefix + "nodes"
        self.info = self.prefix + "info"
        self.dead = self.prefix + "dead"

    def __getitem__(self, name: str) -> str:
        """Return the key of that name in the table above."""
        return self.prefix + name

    def ready_lists(self) -> list[str]:
        """Return the ready lists, highest priority first."""
        return [f"{self.ready}:{priority}" for priority in PRIORITIES] + [self.ready]

    def held(self, worker: str) -> str:
        return f"{self.prefix}held:{worker}"

    def crew(self, node: str) -> str:
        return f"{self.prefix}crew:{node}"

    def inbox(self, worker: str) -> str:
        return f"{self.prefix}inbox:{worker}"

    def alarm(self, timer: str) -> str:
        return f"{self.prefix}alarm:{timer}"

    def notes(self, job_id: str) -> str:
        return f"{self.prefix}notes:{job_id}"

    def group(self, name: str) -> str:
        return f"{self.prefix}group:{name}"

    def answers(self, bucket: str) -> str:
        return f"{self.prefix}r:{bucket}"

    def mail(self, waiter: str) -> str:
        return f"{self.prefix}mail:{waiter}"


def _own(namespace: str) -> str:
    return f"{{{namespace}}}:"


def queues(namespace: str) -> str:
    """SET of the names of all queues ever used."""
    return _own(namespace) + "queues"


def epoch(namespace: str) -> str:
    return _own(namespace) + "epoch"


def nothing(namespace: str) -> str:
    """A key that never exists: deleting it asks whether the server takes writes."""
    return _own(namespace) + "nothing"


def patterns(namespace: str) -> tuple[str, str]:
    """Return SCAN patterns for all keys of the namespace."""
    return _own(namespace) + "*", f"{{{namespace}:*"
