-- The outbox (security.outbox.jobs is its only writer). Stamps: milliseconds since 1970 UTC.
-- Rows of jobs, attempts and history are never deleted (I13): they are the durable memory of what the peer holds.

CREATE TABLE outbox_job (
    job_id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of a lane; never reused
    tenant      TEXT NOT NULL,
    lane        TEXT NOT NULL,                        -- StudyInstanceUID
    kind        TEXT NOT NULL,
    job_class   BIGINT NOT NULL CHECK (job_class BETWEEN 0 AND 3),
    state       TEXT NOT NULL CHECK (state IN (
                    'RECEIVING', 'SETTLING', 'READY', 'LEASED', 'SENT', 'UNKNOWN', 'ACCEPTED', 'RETRY_WAIT',
                    'BLOCKED', 'DEAD', 'PUBLISHED', 'CANCELLED', 'SUPERSEDED')),
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
    deadline    BIGINT NOT NULL,                      -- 9223372036854775807: none
    not_before  BIGINT NOT NULL,                      -- 0: at once
    attempts    BIGINT NOT NULL,                      -- sends begun
    tries       BIGINT NOT NULL,                      -- claims since the job last came nearer its end
    deaths      BIGINT NOT NULL,                      -- consecutive deaths of its worker ...
    died_in     TEXT NOT NULL,                        -- ... in this state
    in_doubt    BIGINT NOT NULL CHECK (in_doubt IN (0, 1)), -- the peer may hold bytes no query has confirmed
    sent_at     BIGINT,                               -- start of the last attempt
    lease_owner TEXT,                                 -- incarnation of the process that works on it
    lease_epoch BIGINT NOT NULL,                      -- one more with every change of the row: the fence (I8)
    -- Bytes are in doubt while a send is open, and only then; poison may freeze that doubt until a person looks.
    CHECK ((in_doubt = 1) = (state IN ('SENT', 'UNKNOWN', 'ACCEPTED')) OR state IN ('DEAD', 'CANCELLED')),
    CHECK (lease_owner IS NOT NULL OR state NOT IN ('LEASED', 'SENT')),
    CHECK (lease_owner IS NULL OR state IN ('SETTLING', 'LEASED', 'SENT', 'UNKNOWN', 'ACCEPTED'))
);

-- One claim reads the head of one (kind, state) in schedule order: class, deadline, age.
CREATE INDEX outbox_claim ON outbox_job (kind, state, job_class, deadline, job_id, not_before)
    WHERE lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');

-- Is an earlier job of the lane unfinished?
CREATE INDEX outbox_lane_open ON outbox_job (tenant, lane, job_id)
    WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');

CREATE INDEX outbox_lane ON outbox_job (tenant, lane);

-- When is the next waiting job due?
CREATE INDEX outbox_due ON outbox_job (not_before)
    WHERE lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');

CREATE INDEX outbox_leased ON outbox_job (job_id) WHERE lease_owner IS NOT NULL;

-- Figures (I18): counts by class and state, oldest unfinished job of a class.
CREATE INDEX outbox_figures ON outbox_job (job_class, state, accepted_at);

CREATE TABLE outbox_attempt (
    tenant     TEXT NOT NULL,
    job_id     BIGINT NOT NULL REFERENCES outbox_job (job_id),
    attempt_no BIGINT NOT NULL,                       -- from 1
    epoch      BIGINT NOT NULL,                       -- lease_epoch under which the bytes left
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,                                -- NULL: still open
    outcome    TEXT NOT NULL,                         -- '' while open, else the event that ended it
    detail     TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt_no)
);

CREATE TABLE outbox_history (
    tenant     TEXT NOT NULL,
    job_id     BIGINT NOT NULL REFERENCES outbox_job (job_id),
    seq        BIGINT NOT NULL,                       -- lease_epoch after the change: ascending, with gaps
    at         BIGINT NOT NULL,
    from_state TEXT NOT NULL,                         -- '' for the first row
    event      TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- Jobs ever accepted: the other side of "sum over states = accepted" (I3).
CREATE INDEX outbox_accepted ON outbox_history (job_id) WHERE from_state = '';

-- Jobs by time from acceptance to publication, counted as they are published (security.outbox.jobs.LAG_BOUNDS_S).
CREATE TABLE outbox_lag (
    tenant  TEXT NOT NULL,
    bound_s BIGINT NOT NULL,                          -- upper bound; 9223372036854775807: none
    jobs    BIGINT NOT NULL,
    lag_ms  BIGINT NOT NULL,                          -- sum
    PRIMARY KEY (tenant, bound_s)
);
