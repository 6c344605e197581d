-- Queues, dead letters, runs and their trees. The tables are shared by all deployments of this schema.

CREATE TABLE @.queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- Where a message is in its life. The row is small, because a claim and a heartbeat write it anew: what the message says
-- is in bodies, which nobody writes twice.
CREATE TABLE @.messages (
    id bigint PRIMARY KEY,
    queue integer NOT NULL,
    visible_at timestamptz NOT NULL DEFAULT now(),
    delivery integer NOT NULL DEFAULT 0,
    -- Whether a receiver has it: false before the first delivery, and after a release.
    held boolean NOT NULL DEFAULT false
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX messages_due ON @.messages (queue, visible_at);

CREATE TABLE @.bodies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sent_at timestamptz NOT NULL DEFAULT now(),
    -- A JSON object of texts. Not jsonb, which refuses the character U+0000.
    attributes text,
    body bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE @.bodies ALTER COLUMN body SET STORAGE EXTERNAL;

-- Rows of no queue. If a table has none by the planner's statistics, it expects an index to have a single page, and reads
-- all of it for every statement: most of that may be dead versions, which an old transaction keeps from being removed.
INSERT INTO @.messages (id, queue, visible_at) SELECT -n, 0, 'infinity' FROM generate_series(1, 20) AS n;
INSERT INTO @.bodies (id, body) OVERRIDING SYSTEM VALUE SELECT -n, '' FROM generate_series(1, 20) AS n;

CREATE TABLE @.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue integer NOT NULL,
    buried_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz NOT NULL,
    -- UTF-8, which may have the character U+0000.
    reason bytea NOT NULL,
    attributes text,
    body bytea NOT NULL
);
ALTER TABLE @.dead_letters ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX dead_letters_listed ON @.dead_letters (queue, id);

CREATE TABLE @.runs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    -- What tells the run from others that have had its id, and both as one text.
    generation text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (id || '#' || generation) STORED,
    -- What was written when the run began, as JSON.
    record text NOT NULL,
    created_ms bigint NOT NULL,
    array_length bigint,
    packets bigint,
    sent_packets bigint,
    sent_items bigint,
    sent_fingerprint text,
    submitted boolean NOT NULL DEFAULT false,
    cancelled boolean NOT NULL DEFAULT false,
    dead bigint NOT NULL DEFAULT 0,
    dead_items bigint NOT NULL DEFAULT 0,
    -- Items on record as left out, and of those the ones of messages that stand as dead letters.
    skipped bigint NOT NULL DEFAULT 0,
    replaced bigint NOT NULL DEFAULT 0,
    state text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN result IS NOT NULL THEN 'done'
            WHEN cancelled THEN 'cancelled'
            WHEN dead > 0 THEN 'failed'
            WHEN submitted THEN 'running'
            ELSE 'open'
        END
    ) STORED,
    written_at timestamptz NOT NULL DEFAULT now(),
    result bytea,
    UNIQUE (deployment, id),
    UNIQUE (deployment, key)
) WITH (fillfactor = 80);
ALTER TABLE @.runs ALTER COLUMN result SET STORAGE EXTERNAL;
CREATE INDEX runs_listed ON @.runs (deployment, created_ms, id);
CREATE INDEX runs_listed_by_state ON @.runs (deployment, state, created_ms, id);
CREATE INDEX runs_expiring ON @.runs (written_at);

-- The state of a group of the reduction tree. No column that changes is indexed, so that arrivals need no new index entry.
CREATE TABLE @.groups (
    run bigint NOT NULL,
    stage text COLLATE "C" NOT NULL,
    tree bigint NOT NULL,
    level bigint NOT NULL,
    position bigint NOT NULL,
    arrived integer[] NOT NULL DEFAULT '{}',
    expected bigint,
    root boolean NOT NULL DEFAULT false,
    retired boolean NOT NULL DEFAULT false,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, stage, tree, level, position)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

-- Partial results: a row for all that one call brought to a group. A slot's value is that of the row with the lowest id.
CREATE TABLE @.partials (
    run bigint NOT NULL,
    stage text COLLATE "C" NOT NULL,
    tree bigint NOT NULL,
    level bigint NOT NULL,
    position bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    slots integer[] NOT NULL,
    contents bytea[] NOT NULL,
    PRIMARY KEY (run, stage, tree, level, position, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE @.partials ALTER COLUMN contents SET STORAGE EXTERNAL;

-- What is on record of a message that has failed or was delivered more than once.
CREATE TABLE @.failures (
    run bigint NOT NULL,
    stage text COLLATE "C" NOT NULL,
    message text COLLATE "C" NOT NULL,
    -- The message's name with its numbers padded, by which a list is ordered.
    ordering text COLLATE "C" NOT NULL,
    -- Counts the writes: one that has not seen the last is refused.
    version bigint NOT NULL,
    listed boolean NOT NULL,
    -- The order of the run's dead letters.
    died bigint,
    -- Attempts, deliveries, skipped items and the dead letter, as JSON.
    document text NOT NULL,
    PRIMARY KEY (run, stage, message)
);
CREATE INDEX failures_listed ON @.failures (run, stage, ordering, message) WHERE listed;
CREATE INDEX failures_dead ON @.failures (run, died) WHERE died IS NOT NULL;
CREATE SEQUENCE @.deaths;

-- For people.
CREATE VIEW @.queue_depths AS
SELECT
    q.name,
    count(m.id) FILTER (WHERE m.visible_at <= now()) AS ready,
    count(m.id) FILTER (WHERE m.visible_at > now() AND m.held) AS in_flight,
    count(m.id) FILTER (WHERE m.visible_at > now() AND NOT m.held) AS delayed,
    (SELECT count(*) FROM @.dead_letters d WHERE d.queue = q.id) AS dead,
    min(b.sent_at) AS oldest
FROM @.queues q
LEFT JOIN @.messages m ON m.queue = q.id
LEFT JOIN @.bodies b ON b.id = m.id
GROUP BY q.id, q.name;
