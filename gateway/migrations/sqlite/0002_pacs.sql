-- How far the change log of each PACS has been read: moves in the transaction that holds what it led to.
CREATE TABLE pacs_cursor (
    tenant       TEXT NOT NULL,
    pacs         TEXT NOT NULL,
    seq          INTEGER NOT NULL,        -- of the last change read, 0 before the first
    mark         TEXT NOT NULL,           -- digest of that change: another one under its number is another log
    replay_until INTEGER NOT NULL,        -- up to here it is a log read again from its beginning: no hurry
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant, pacs)
) STRICT;

-- Reported exams whose PACS took in images and has not called them stable since: looked at when due.
CREATE TABLE pacs_arriving (
    tenant    TEXT NOT NULL,
    pacs      TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    due_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant, pacs, study_uid)
) STRICT;

-- What each PACS was found able to do: a row when it differs from the last one, or after a week.
CREATE TABLE pacs_capability (
    tenant TEXT NOT NULL,
    pacs   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    record TEXT NOT NULL,                 -- JSON, no patient value
    PRIMARY KEY (tenant, pacs, at)
) STRICT;
