-- The format of the file, version 2. Times are milliseconds since 1970-01-01 UTC.

-- Queues by name.
CREATE TABLE queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  -- Where the last of its turns ends.
  turn INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Where the next message of a run comes on a queue. Runs that the queue has passed are not kept.
CREATE TABLE turn (
  queue INTEGER NOT NULL,
  run TEXT NOT NULL,
  next INTEGER NOT NULL,
  PRIMARY KEY (queue, run)
) STRICT, WITHOUT ROWID;

-- Messages that are not acknowledged. A claim and a heartbeat change this row only, and not the body.
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue INTEGER NOT NULL,
  -- 0 for a message that waits and has waited since it was sent, or was released without a delay.
  visible_at INTEGER NOT NULL DEFAULT 0,
  is_held INTEGER NOT NULL DEFAULT 0,
  receives INTEGER NOT NULL DEFAULT 0,
  -- Who holds it: a row of `owner`.
  owner INTEGER,
  sent_at INTEGER NOT NULL,
  -- Those that wait are delivered in this order.
  turn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX message_due ON message (queue, visible_at, turn);

CREATE TABLE body (
  message INTEGER PRIMARY KEY,
  body BLOB NOT NULL,
  -- A JSON object of text; NULL if there are none.
  attributes TEXT
) STRICT;

CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue INTEGER NOT NULL,
  buried_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  receives INTEGER NOT NULL,
  sent_at INTEGER NOT NULL,
  body BLOB NOT NULL,
  attributes TEXT
) STRICT;
CREATE INDEX dead_letter_of ON dead_letter (queue, id);

-- Open handles on this file, so that what a process held when it was killed is not waited for.
CREATE TABLE owner (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  process TEXT NOT NULL
) STRICT;

-- Runs. `scope` is the deployment whose part of the store the run is in.
CREATE TABLE run (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  -- What tells the run from others that have had its name.
  generation TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  -- open, running, failed, done or cancelled
  state TEXT NOT NULL DEFAULT 'open',
  record TEXT NOT NULL,
  checkpoint TEXT,
  is_submitted INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  dead_items INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  -- When it was done or cancelled.
  ended_at INTEGER,
  UNIQUE (scope, name)
) STRICT;
CREATE INDEX run_newest ON run (scope, created_at, name);
CREATE INDEX run_newest_of_state ON run (scope, state, created_at, name);
CREATE INDEX run_ended ON run (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE result (
  run INTEGER PRIMARY KEY,
  value BLOB NOT NULL
) STRICT;

-- Groups of the reduction tree.
CREATE TABLE tree (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL,
  stage TEXT NOT NULL,
  part INTEGER NOT NULL,
  level INTEGER NOT NULL,
  place INTEGER NOT NULL,
  arrived INTEGER NOT NULL DEFAULT 0,
  expected INTEGER,
  is_root INTEGER NOT NULL DEFAULT 0,
  is_retired INTEGER NOT NULL DEFAULT 0,
  -- A JSON array of the slots of a retired group, unless they are the first ones without a gap.
  slots TEXT,
  UNIQUE (run, stage, part, level, place)
) STRICT;

CREATE TABLE member (
  tree INTEGER NOT NULL,
  slot INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (tree, slot)
) STRICT, WITHOUT ROWID;

-- What is on record of a message that failed or was delivered again: attempts, beginnings, skipped items, its dead letter.
CREATE TABLE failure (
  run INTEGER NOT NULL,
  stage TEXT NOT NULL,
  -- The message's name with its numbers padded, so that their order is that of the texts.
  sort_key TEXT NOT NULL,
  message TEXT NOT NULL,
  -- Whether it is a dead letter or has skipped items.
  is_listed INTEGER NOT NULL DEFAULT 0,
  -- The order in which messages became dead letters.
  dead_number INTEGER,
  record TEXT NOT NULL,
  PRIMARY KEY (run, stage, sort_key, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX failure_listed ON failure (run, stage, sort_key, message) WHERE is_listed;
CREATE INDEX failure_dead ON failure (run, dead_number) WHERE dead_number IS NOT NULL;

-- Runs whose groups and failures are no longer needed, to be removed little by little.
CREATE TABLE trash (run INTEGER PRIMARY KEY) STRICT;

-- For people: `sqlite3 FILE 'SELECT * FROM runs'`.
CREATE VIEW runs AS SELECT
  name AS run,
  scope AS deployment,
  state,
  datetime(created_at / 1000, 'unixepoch') AS created,
  datetime(ended_at / 1000, 'unixepoch') AS ended,
  record ->> '$.arrayLength' AS items,
  record ->> '$.packets' AS packets,
  skipped AS skipped_items,
  dead AS dead_letters,
  (SELECT CAST(value AS TEXT) FROM result WHERE result.run = run.id) AS result
FROM run ORDER BY created_at DESC, name DESC;

CREATE VIEW queues AS SELECT
  name AS queue,
  (SELECT COUNT(*) FROM message WHERE message.queue = queue.id AND visible_at <= (julianday('now') - 2440587.5) * 86400000) AS ready,
  (SELECT COUNT(*) FROM message WHERE message.queue = queue.id AND visible_at > (julianday('now') - 2440587.5) * 86400000 AND is_held) AS in_flight,
  (SELECT COUNT(*) FROM message WHERE message.queue = queue.id AND visible_at > (julianday('now') - 2440587.5) * 86400000 AND NOT is_held) AS delayed,
  (SELECT COUNT(*) FROM dead_letter WHERE dead_letter.queue = queue.id) AS dead
FROM queue ORDER BY name;

CREATE VIEW dead_letters AS SELECT
  dead_letter.id,
  queue.name AS queue,
  datetime(buried_at / 1000, 'unixepoch') AS buried,
  reason,
  receives,
  CAST(body AS TEXT) AS body,
  attributes
FROM dead_letter JOIN queue ON queue.id = dead_letter.queue ORDER BY dead_letter.id;
