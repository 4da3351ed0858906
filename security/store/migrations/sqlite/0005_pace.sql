-- What happened to each class in each minute: what forecasts are made from (security.outbox.pace is the only writer).
CREATE TABLE outbox_minute (
    tenant    TEXT NOT NULL,
    minute    INTEGER NOT NULL,                       -- since 1970 UTC
    job_class INTEGER NOT NULL,
    accepted  INTEGER NOT NULL,
    published INTEGER NOT NULL,
    busy_ms   INTEGER NOT NULL,                       -- sum of the calls to the index that ended in it
    PRIMARY KEY (tenant, minute, job_class)
) STRICT, WITHOUT ROWID;

-- What was foretold, and when what it spoke of was done.
CREATE TABLE outbox_prediction (
    tenant     TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    backlog    INTEGER NOT NULL,
    drain_ms   INTEGER NOT NULL,
    drained_at INTEGER,                               -- NULL: not yet
    PRIMARY KEY (tenant, made_at)
) STRICT, WITHOUT ROWID;

-- What a job was asked as. job_class is how it is scheduled now: it may have been hastened since.
ALTER TABLE outbox_job ADD COLUMN asked_class INTEGER NOT NULL DEFAULT 1;
UPDATE outbox_job SET asked_class = job_class;

-- Jobs that wait for nothing but their turn, by class and deadline.
CREATE INDEX outbox_backlog ON outbox_job (tenant, job_class, deadline, not_before)
    WHERE state IN ('SETTLING', 'READY', 'LEASED', 'SENT', 'UNKNOWN', 'RETRY_WAIT');
CREATE INDEX outbox_ageing ON outbox_job (deadline)
    WHERE job_class = 2 AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');
