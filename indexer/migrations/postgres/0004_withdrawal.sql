-- What asked the index to withdraw an entry, byte for byte as it was sent (ITI-57). One row per preparation of a job.
CREATE TABLE withdrawal (
    tenant     TEXT NOT NULL,
    job_id     BIGINT NOT NULL,
    serial     BIGINT NOT NULL,          -- from 1
    study_uid  TEXT NOT NULL,
    version    BIGINT NOT NULL,          -- whose entry it withdraws
    unique_id  TEXT NOT NULL,
    entry_uuid TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    request    BYTEA NOT NULL,             -- sealed: metadata, byte for byte
    PRIMARY KEY (tenant, job_id, serial),
    FOREIGN KEY (tenant, study_uid, version) REFERENCES manifest (tenant, study_uid, version)
);

-- Exams that we invented ourselves for the test patient. indexer.trial, which makes their StudyInstanceUID, is the only
-- writer: a study that is not here is a real one.
CREATE TABLE trial (
    tenant    TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    report_id TEXT NOT NULL,              -- the report we wrote about it
    at        BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    PRIMARY KEY (tenant, study_uid),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid),
    FOREIGN KEY (tenant, report_id) REFERENCES report (tenant, report_id)
);
