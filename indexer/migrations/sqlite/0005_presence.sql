-- What stands about an exam besides its reports. A row says nothing once all of it is empty.
CREATE TABLE presence (
    tenant       TEXT NOT NULL,
    study_uid    TEXT NOT NULL,
    kept_out_by  TEXT NOT NULL DEFAULT '', -- the person who took it out of the index
    announced_at INTEGER,                  -- somebody said that it, or a part of it, is gone; no PACS showed it since
    absent_at    INTEGER,                  -- first clean absence that no sight of it followed
    PRIMARY KEY (tenant, study_uid),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
) STRICT;
CREATE INDEX presence_absent ON presence (tenant) WHERE absent_at IS NOT NULL;

-- What the register of patients says: merges (ADT^A40), their undo (A37), corrections (A08, A31). Never changed; what
-- counts now is derived (indexer.persons).
CREATE TABLE person_statement (
    tenant      TEXT NOT NULL,
    number      INTEGER NOT NULL,
    at          INTEGER NOT NULL,          -- when the register said so
    received_at INTEGER NOT NULL,
    control_id  TEXT NOT NULL,
    content     BLOB NOT NULL,             -- sealed: kind, patient, prior identifiers
    PRIMARY KEY (tenant, number)
) STRICT;
CREATE TABLE person_statement_id (
    tenant      TEXT NOT NULL,
    local_blind BLOB NOT NULL,             -- blind index of each local identifier it names
    number      INTEGER NOT NULL,
    PRIMARY KEY (tenant, local_blind, number),
    FOREIGN KEY (tenant, number) REFERENCES person_statement (tenant, number)
) STRICT;
