-- Whom an exam is hidden from, beside the document that says nothing of it: marks of indexer.hiding, in order.
ALTER TABLE manifest ADD COLUMN document_hash TEXT NOT NULL DEFAULT '';  -- content whoever it is hidden from; '' = not recorded
ALTER TABLE manifest ADD COLUMN marks TEXT;                              -- what its reports hide; NULL = not recorded
ALTER TABLE entry ADD COLUMN content_hash TEXT;  -- as the metadata stand since they were revised; NULL = the manifest's
ALTER TABLE entry ADD COLUMN told TEXT;          -- marks we told with that; NULL = the manifest's
ALTER TABLE entry ADD COLUMN shown TEXT;         -- marks the index showed when it last confirmed one of our requests

-- What asked the index for new metadata of an entry, byte for byte as it was sent (ITI-57).
CREATE TABLE revision (
    tenant       TEXT NOT NULL,
    job_id       INTEGER NOT NULL,
    serial       INTEGER NOT NULL,          -- from 1, by job
    study_uid    TEXT NOT NULL,
    version      INTEGER NOT NULL,          -- of the manifest whose entry it revises
    next_version INTEGER NOT NULL,          -- the first version of the manifest that would come after it
    unique_id    TEXT NOT NULL,
    entry_uuid   TEXT NOT NULL,             -- the entry as it was approved then
    content_hash TEXT NOT NULL,
    told         TEXT NOT NULL,             -- marks of the reports
    hidden       TEXT NOT NULL,             -- marks of the request: these, and those somebody else put there
    outcome      TEXT NOT NULL DEFAULT '' CHECK (outcome IN ('', 'confirmed', 'refused')),
    created_at   INTEGER NOT NULL,
    request      BLOB NOT NULL,             -- sealed: metadata, byte for byte
    PRIMARY KEY (tenant, job_id, serial),
    FOREIGN KEY (tenant, study_uid, version) REFERENCES manifest (tenant, study_uid, version)
) STRICT;
CREATE INDEX revision_by_study ON revision (tenant, study_uid, version);

-- An index that does not take new metadata of an entry, and since when we know.
CREATE TABLE revision_refusal (
    tenant TEXT NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    why    TEXT NOT NULL
) STRICT;
