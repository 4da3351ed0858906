-- Conflicts that a person has looked at and accepted: exactly these values, for this report and study, and no others.
CREATE TABLE waiver (
    waiver_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    TEXT NOT NULL,
    report_id TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    moment    TEXT NOT NULL CHECK (moment IN ('message', 'pacs')), -- which comparison found it
    code      TEXT NOT NULL,
    seen      BYTEA NOT NULL,             -- blind index of the conflict: its field, its sources, both values
    at        BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    ended_at  BIGINT,                     -- when another conflict of the report and study put an end to it
    FOREIGN KEY (tenant, report_id) REFERENCES report (tenant, report_id),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
);
CREATE UNIQUE INDEX waiver_in_force ON waiver (tenant, report_id, study_uid, moment, code, seen)
    WHERE ended_at IS NULL;

-- The identity a PACS stated when it last contradicted a report about the study: for whoever compares the two.
CREATE TABLE pacs_identity (
    tenant    TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    at        BIGINT NOT NULL,
    content   BYTEA NOT NULL,             -- sealed: the study without its series
    PRIMARY KEY (tenant, study_uid),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
);

-- What a version holds, for people; 0 for versions of before.
ALTER TABLE manifest ADD COLUMN series BIGINT NOT NULL DEFAULT 0;
ALTER TABLE manifest ADD COLUMN instances BIGINT NOT NULL DEFAULT 0;
ALTER TABLE manifest ADD COLUMN document_bytes BIGINT NOT NULL DEFAULT 0;
