-- One file holds many namespaces.  A job is one row from enqueue to the end of its answer's
-- lifetime, so that it cannot be in two states or in none.  Times are Unix milliseconds.  What newer
-- versions have added stands in file/additions.py.

CREATE TABLE store (
  id    INTEGER PRIMARY KEY CHECK (id = 1),
  epoch TEXT NOT NULL,
  token INTEGER NOT NULL           -- the newest fencing token
);

CREATE TABLE space (
  id     INTEGER PRIMARY KEY,
  name   TEXT NOT NULL UNIQUE,
  orders INTEGER NOT NULL DEFAULT 1   -- grows with each change to the standing orders
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
  record   BLOB NOT NULL,
  extras   INTEGER NOT NULL DEFAULT 0   -- 1: there may be notes, a key or a wish to stop;
                                        -- 2: called forward in this lease
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

CREATE TABLE gone (                -- workers that were taken back: they lease no more
  space    INTEGER NOT NULL,
  worker   TEXT NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (space, worker)
) WITHOUT ROWID;

CREATE TABLE tick (
  space    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  ms       INTEGER NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (space, name, ms)
) WITHOUT ROWID;

-- What belongs to a job that has not ended; `job.extras` says that there may be any, so that the
-- other jobs pay nothing for it.

CREATE TABLE note (
  job   INTEGER NOT NULL,
  key   TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (job, key)
) WITHOUT ROWID;

CREATE TABLE uniq (
  queue       INTEGER NOT NULL,
  key         TEXT NOT NULL,
  job         INTEGER NOT NULL,
  until_start INTEGER NOT NULL,
  PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX uniq_job ON uniq (job);

CREATE TABLE stop (
  job    INTEGER PRIMARY KEY,
  answer BLOB NOT NULL,
  ttl_s  INTEGER NOT NULL
);

CREATE TRIGGER job_ended AFTER UPDATE OF state ON job WHEN OLD.extras AND NEW.state > 4 BEGIN
  DELETE FROM note WHERE job = OLD.n;
  DELETE FROM uniq WHERE job = OLD.n;
  DELETE FROM stop WHERE job = OLD.n;
  UPDATE job SET extras = 0 WHERE n = OLD.n;
END;

CREATE TRIGGER job_gone AFTER DELETE ON job WHEN OLD.extras BEGIN
  DELETE FROM note WHERE job = OLD.n;
  DELETE FROM uniq WHERE job = OLD.n;
  DELETE FROM stop WHERE job = OLD.n;
END;

CREATE TRIGGER job_started AFTER UPDATE OF state ON job WHEN OLD.extras AND NEW.state = 4 BEGIN
  DELETE FROM uniq WHERE job = OLD.n AND until_start;
END;

CREATE TABLE parked (              -- dead letters that wait under a label
  job   INTEGER PRIMARY KEY,
  queue INTEGER NOT NULL,
  label TEXT NOT NULL,
  ms    INTEGER NOT NULL           -- since when
);
CREATE INDEX parked_label ON parked (queue, label, ms);

CREATE TABLE standing (            -- orders not to run a job or a task
  space    INTEGER NOT NULL,
  subject  TEXT NOT NULL,
  data     BLOB NOT NULL,          -- JSON
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (space, subject)
) WITHOUT ROWID;

CREATE TABLE place (               -- places of locks that are taken
  space    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  owner    TEXT NOT NULL,
  worker   TEXT NOT NULL,          -- '' for owners that are no worker's
  token    INTEGER NOT NULL,
  until_ms INTEGER,                -- NULL: as long as its worker
  PRIMARY KEY (space, name, owner)
) WITHOUT ROWID;
CREATE INDEX place_worker ON place (space, worker);

CREATE TABLE waiter (              -- jobs that wait for a lock, first come first served
  n     INTEGER PRIMARY KEY,
  space INTEGER NOT NULL,
  name  TEXT NOT NULL,
  queue TEXT NOT NULL,
  id    TEXT NOT NULL,
  UNIQUE (space, name, queue, id)
);

CREATE TABLE start (               -- starts that a rate has counted
  n        INTEGER PRIMARY KEY,
  space    INTEGER NOT NULL,
  key      TEXT NOT NULL,
  ms       INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
);
CREATE INDEX start_key ON start (space, key, ms);

CREATE TABLE told (                -- who was refused by a rate, and for when
  space INTEGER NOT NULL,
  key   TEXT NOT NULL,
  who   TEXT NOT NULL,
  ms    INTEGER NOT NULL,
  PRIMARY KEY (space, key, who)
) WITHOUT ROWID;

CREATE TABLE party (               -- a group and its callback
  space    INTEGER NOT NULL,
  id       TEXT NOT NULL,
  total    INTEGER NOT NULL,
  callback BLOB,                   -- JSON of an Entry
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (space, id)
) WITHOUT ROWID;

CREATE TABLE reply (               -- the answers of a group's members
  space  INTEGER NOT NULL,
  party  TEXT NOT NULL,
  number INTEGER NOT NULL,
  answer BLOB NOT NULL,
  PRIMARY KEY (space, party, number)
) WITHOUT ROWID;

CREATE TABLE schedule (
  space INTEGER NOT NULL,
  name  TEXT NOT NULL,
  data  BLOB NOT NULL,
  PRIMARY KEY (space, name)
) WITHOUT ROWID;
