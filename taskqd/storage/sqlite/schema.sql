-- One file holds many namespaces.  A job is one row from enqueue to the end of its answer's
-- lifetime, so that it cannot be in two states or in none.  Times are Unix milliseconds.

CREATE TABLE store (
  id    INTEGER PRIMARY KEY CHECK (id = 1),
  epoch TEXT NOT NULL,
  token INTEGER NOT NULL           -- the newest fencing token
);

CREATE TABLE space (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);

CREATE TABLE queue (
  id       INTEGER PRIMARY KEY,    -- names its folder of wake-up FIFOs, so it is never used again
  space    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  paused   INTEGER NOT NULL DEFAULT 0,
  head     INTEGER NOT NULL DEFAULT 0,   -- place of the job last put to the head; falls
  tail     INTEGER NOT NULL DEFAULT 0,   -- place of the job last put to the tail; grows
  ready    INTEGER NOT NULL DEFAULT 0,   -- jobs in state 1
  suspects INTEGER NOT NULL DEFAULT 0,   -- jobs in state 2
  UNIQUE (space, name)
);

CREATE TABLE job (
  n        INTEGER PRIMARY KEY,
  queue    INTEGER NOT NULL,
  id       TEXT NOT NULL,
  state    INTEGER NOT NULL,       -- what `rank` and `pos` mean:
                                   -- 1 ready      9 - priority        place
                                   -- 2 suspect    0                   place
                                   -- 3 scheduled  due at              place
                                   -- 4 running    worker              token
                                   -- 5 dead       died at             answer kept until
                                   -- 6 ended      answer kept until   0
  rank     NOT NULL,
  pos      INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  suspect  INTEGER NOT NULL DEFAULT 0,
  reason   TEXT NOT NULL DEFAULT '',
  answer   BLOB NOT NULL DEFAULT x'',
  record   BLOB NOT NULL
);
CREATE UNIQUE INDEX job_id ON job (queue, id);
CREATE INDEX job_place ON job (queue, state, rank, pos);

CREATE TABLE node (
  space      INTEGER NOT NULL,
  id         TEXT NOT NULL,
  node       BLOB NOT NULL,        -- JSON
  clock      TEXT NOT NULL,        -- whose monotonic clock `expires_ms` is of
  expires_ms INTEGER NOT NULL,
  wall_ms    INTEGER NOT NULL,     -- the same moment by the wall clock, for other clocks
  PRIMARY KEY (space, id)
) WITHOUT ROWID;

CREATE TABLE member (              -- which queues a node serves
  queue INTEGER NOT NULL,
  node  TEXT NOT NULL,
  PRIMARY KEY (queue, node)
) WITHOUT ROWID;

CREATE TABLE tick (
  space    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  ms       INTEGER NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (space, name, ms)
) WITHOUT ROWID;
