-- From version 1: runs take turns. What waits is delivered before what is sent from now on.
ALTER TABLE queue ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
DROP INDEX message_due;
CREATE INDEX message_due ON message (queue, visible_at, turn);
CREATE TABLE turn (
  queue INTEGER NOT NULL,
  run TEXT NOT NULL,
  next INTEGER NOT NULL,
  PRIMARY KEY (queue, run)
) STRICT, WITHOUT ROWID;
