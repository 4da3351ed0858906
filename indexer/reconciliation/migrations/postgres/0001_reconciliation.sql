-- What the last reconciliation learnt of an exam.
CREATE TABLE reconciled (
    tenant      TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    day         TEXT NOT NULL,            -- StudyDate the PACS stated last, '' unknown
    absent_at   BIGINT,                  -- when the PACS was first seen without it, NULL while it has it
    searched_at BIGINT NOT NULL,         -- when the index was last searched by reference, 0 never
    PRIMARY KEY (tenant, study_uid)
);
CREATE INDEX reconciled_by_day ON reconciled (tenant, day);

-- One run. It can be taken up where it stopped: the phase and its cursor are written with every batch.
CREATE TABLE reconciliation (
    run_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     TEXT NOT NULL,
    first_day  TEXT NOT NULL,             -- ISO, '' without window
    last_day   TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,
    state      TEXT NOT NULL CHECK (state IN ('days', 'exams', 'withdrawals', 'done', 'stopped')),
    cursor     TEXT NOT NULL,             -- next day, or last study looked at
    looked_at  BIGINT NOT NULL
);
CREATE INDEX reconciliation_of_tenant ON reconciliation (tenant, run_id);

-- What a run found other than in step. Withdrawals wait here until the run knows how many they are.
CREATE TABLE drift (
    run_id    BIGINT NOT NULL,
    study_uid TEXT NOT NULL,              -- or 'day:YYYY-MM-DD' for a day the PACS did not list
    case_name TEXT NOT NULL,
    action    TEXT NOT NULL,
    is_done   BIGINT NOT NULL,
    PRIMARY KEY (run_id, study_uid, case_name)
);

-- When this database was last restored from a backup: from then on the index may know more than it does.
CREATE TABLE restored (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at  BIGINT NOT NULL                  -- when it was restored
);
