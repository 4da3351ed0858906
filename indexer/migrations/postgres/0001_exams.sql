-- One row per study of a tenant that any report spoke of.
CREATE TABLE exam (
    tenant        TEXT NOT NULL,
    study_uid     TEXT NOT NULL,
    zone          TEXT NOT NULL,          -- where the first word of it came in
    first_seen_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, study_uid)
);

-- One row per report document (CDA id), whichever message carried it.
CREATE TABLE report (
    report_no   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of arrival, whatever the clock said
    tenant      TEXT NOT NULL,
    report_id   TEXT NOT NULL,            -- CDA id: root or root^extension
    received_at BIGINT NOT NULL,
    control_id  TEXT NOT NULL,            -- MSH-10 of the message that brought it first
    status      TEXT NOT NULL CHECK (status IN ('valid', 'held', 'replaced', 'withdrawn')),
    reason      TEXT NOT NULL,            -- why it is held, '' otherwise
    replaces    TEXT NOT NULL,            -- id of the report it replaces, '' for none
    digest      BYTEA NOT NULL,           -- SHA-256 of its content as we read it
    ins_blind   BYTEA NOT NULL,           -- blind index of the matricule
    content     BYTEA NOT NULL,           -- sealed: what the report says
    UNIQUE (tenant, report_id)
);
CREATE INDEX report_by_replaced ON report (tenant, replaces) WHERE replaces <> '';
CREATE INDEX report_by_ins ON report (tenant, ins_blind);

CREATE TABLE report_study (
    tenant    TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    report_id TEXT NOT NULL,
    contested TEXT NOT NULL,              -- why the PACS contradicts the report about this study, '' if it does not
    PRIMARY KEY (tenant, study_uid, report_id),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid),
    FOREIGN KEY (tenant, report_id) REFERENCES report (tenant, report_id)
);
CREATE INDEX report_study_by_report ON report_study (tenant, report_id);

-- Blind index of each local identifier (IPP with its issuer) a report states.
CREATE TABLE report_local_id (
    tenant      TEXT NOT NULL,
    local_blind BYTEA NOT NULL,
    report_id   TEXT NOT NULL,
    PRIMARY KEY (tenant, local_blind, report_id),
    FOREIGN KEY (tenant, report_id) REFERENCES report (tenant, report_id)
);

-- Dated facts about an exam: with the job history they are its timeline.
CREATE TABLE evidence (
    evidence_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    at          BIGINT NOT NULL,
    kind        TEXT NOT NULL,            -- stable code
    summary     TEXT NOT NULL,            -- no patient value
    sealed      BYTEA,                    -- values a person with the right may read
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
);
CREATE INDEX evidence_by_exam ON evidence (tenant, study_uid, evidence_id);

-- One row per version: the whole manifest is one blob, the submitted bytes are kept as they were sent.
CREATE TABLE manifest (
    tenant       TEXT NOT NULL,
    study_uid    TEXT NOT NULL,
    version      BIGINT NOT NULL,
    job_id       BIGINT NOT NULL,
    content_hash TEXT NOT NULL,
    unique_id    TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    replaces     TEXT,                    -- entryUUID of the approved entry this version replaces
    content      BYTEA NOT NULL,          -- sealed: the manifest and its context
    submission   BYTEA NOT NULL,          -- sealed: metadata and documents, byte for byte
    PRIMARY KEY (tenant, study_uid, version),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
);
CREATE UNIQUE INDEX manifest_unique_id ON manifest (tenant, unique_id);
CREATE INDEX manifest_by_job ON manifest (tenant, job_id);

-- What the index holds, as a query showed it.
CREATE TABLE entry (
    tenant       TEXT NOT NULL,
    study_uid    TEXT NOT NULL,
    version      BIGINT NOT NULL,
    unique_id    TEXT NOT NULL,
    entry_uuid   TEXT NOT NULL,
    status       TEXT NOT NULL,           -- availabilityStatus
    confirmed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, study_uid, version),
    FOREIGN KEY (tenant, study_uid, version) REFERENCES manifest (tenant, study_uid, version)
);
