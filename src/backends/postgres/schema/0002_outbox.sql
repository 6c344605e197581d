-- Submissions that applications write inside their own transactions, until a worker has made runs of them.
CREATE TABLE @.outbox (
    -- The order in which submissions are taken up.
    number bigint GENERATED ALWAYS AS IDENTITY,
    deployment text COLLATE "C" NOT NULL,
    -- The run's.
    id text COLLATE "C" NOT NULL,
    -- A large submission has several parts, of which the last one says so.
    submission uuid NOT NULL DEFAULT gen_random_uuid(),
    part integer NOT NULL DEFAULT 0 CHECK (part >= 0),
    last boolean NOT NULL DEFAULT true,
    -- A JSON array; or a list in the deployment's compact codec, and how many items that has.
    items json,
    compact bytea,
    compact_items integer,
    length integer NOT NULL GENERATED ALWAYS AS (coalesce(compact_items, json_array_length(items))) STORED,
    written_at timestamptz NOT NULL DEFAULT now(),
    -- Why it cannot become a run.
    error text,
    failed_at timestamptz,
    PRIMARY KEY (submission, part),
    CHECK (num_nonnulls(items, compact) = 1 AND (compact IS NULL) = (compact_items IS NULL))
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX outbox_due ON @.outbox (deployment, number) WHERE last AND error IS NULL;
CREATE INDEX outbox_runs ON @.outbox (deployment, id);

-- Ids whose submission a process is taking up, until when. One at a time for each id.
CREATE TABLE @.outbox_leases (
    deployment text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (deployment, id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- For people.
CREATE VIEW @.outbox_submissions AS
SELECT
    o.deployment,
    o.id,
    o.submission,
    count(*) AS parts,
    sum(o.length) AS items,
    CASE
        WHEN max(o.error) IS NOT NULL THEN 'refused'
        WHEN NOT bool_or(o.last) THEN 'incomplete'
        WHEN max(l.until) > now() THEN 'taken up'
        ELSE 'waiting'
    END AS state,
    min(o.written_at) AS written_at,
    max(o.error) AS error
FROM @.outbox o
LEFT JOIN @.outbox_leases l ON l.deployment = o.deployment AND l.id = o.id
GROUP BY o.deployment, o.id, o.submission;
