-- What was said between us and the index about an exam, one row per exchange (indexer.exchanges).
CREATE TABLE exchange (
    exchange_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT NOT NULL,
    study_uid    TEXT NOT NULL,
    job_id       INTEGER NOT NULL,
    attempt_no   INTEGER NOT NULL,         -- of the job's sends; 0 before the first
    name         TEXT NOT NULL,            -- transaction: ITI-41, ITI-18 ...
    url          TEXT NOT NULL,            -- without query
    began_at     INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    http_status  INTEGER NOT NULL,         -- 0: no answer began
    outcome      TEXT NOT NULL,            -- what the answer meant; the failure of the wire when it did not come whole
    detail       TEXT NOT NULL,
    request_type TEXT NOT NULL,            -- Content-Type
    answer_type  TEXT NOT NULL,
    request_bytes INTEGER NOT NULL,        -- as it left
    answer_bytes INTEGER NOT NULL,         -- that came; fewer may be kept
    content      BLOB NOT NULL            -- sealed: the request less what is stored already and any credential, the answer
) STRICT;
CREATE INDEX exchange_by_exam ON exchange (tenant, study_uid, exchange_id);
CREATE INDEX exchange_by_age ON exchange (tenant, ended_at);

-- What each PACS answered about an exam; the same answer again is counted, not added (indexer.questions).
CREATE TABLE pacs_answer (
    answer_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    pacs        TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('found', 'absent', 'unknown')),
    reason      TEXT NOT NULL,             -- of unknown, '' otherwise
    series      INTEGER NOT NULL,          -- of found
    instances   INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    times       INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL           -- of the last question
) STRICT;
CREATE INDEX pacs_answer_by_exam ON pacs_answer (tenant, study_uid, answer_id);
