-- What stands about an exam besides its reports. A row says nothing once all of it is empty.
CREATE TABLE presence (
    tenant       TEXT NOT NULL,
    study_uid    TEXT NOT NULL,
    kept_out_by  TEXT NOT NULL DEFAULT '', -- the person who took it out of the index
    announced_at BIGINT,                  -- somebody said that it, or a part of it, is gone; no PACS showed it since
    absent_at    BIGINT,                  -- first clean absence that no sight of it followed
    PRIMARY KEY (tenant, study_uid),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
);
CREATE INDEX presence_absent ON presence (tenant) WHERE absent_at IS NOT NULL;

-- What the register of patients says: merges (ADT^A40), their undo (A37), corrections (A08, A31). Never changed; what
-- counts now is derived (indexer.persons).
CREATE TABLE person_statement (
    tenant      TEXT NOT NULL,
    number      BIGINT NOT NULL,
    at          BIGINT NOT NULL,          -- when the register said so
    received_at BIGINT NOT NULL,
    control_id  TEXT NOT NULL,
    content     BYTEA NOT NULL,             -- sealed: kind, patient, prior identifiers
    PRIMARY KEY (tenant, number)
);
CREATE TABLE person_statement_id (
    tenant      TEXT NOT NULL,
    local_blind BYTEA NOT NULL,             -- blind index of each local identifier it names
    number      BIGINT NOT NULL,
    PRIMARY KEY (tenant, local_blind, number),
    FOREIGN KEY (tenant, number) REFERENCES person_statement (tenant, number)
);
