-- What the imaging side says about exams (indexer.imaging). Stamps: milliseconds since 1970 UTC.

-- One rejection note about one study (IHE RAD-66, IOCM). A note of several studies has a row for each.
CREATE TABLE rejection (
    tenant      TEXT NOT NULL,
    zone        TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    note_uid    TEXT NOT NULL,            -- SOP Instance UID of the note
    title       TEXT NOT NULL,            -- code of its title (CID 7010, DCM)
    peer        TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    standing    TEXT NOT NULL CHECK (standing IN ('waiting', 'obeyed', 'refused')),
    reason      TEXT NOT NULL,            -- stable code why it is refused, else ''
    number      BIGINT NOT NULL,         -- of instances
    instances   BYTEA NOT NULL,           -- zlib of their SOP Instance UIDs, one a line, sorted
    patient     BYTEA NOT NULL,           -- sealed: whom the note names
    PRIMARY KEY (tenant, study_uid, note_uid)
);
CREATE INDEX rejection_refused ON rejection (tenant, received_at) WHERE standing = 'refused';

-- One performed procedure step (PS3.4 F.7).
CREATE TABLE performed_step (
    tenant     TEXT NOT NULL,
    zone       TEXT NOT NULL,
    step_uid   TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')),
    peer       TEXT NOT NULL,
    begun_at   BIGINT NOT NULL,          -- when its N-CREATE came
    changed_at BIGINT NOT NULL,
    ended_at   BIGINT,                   -- when its final status came
    series     BIGINT NOT NULL,          -- performed so far, as it states them
    instances  BIGINT NOT NULL,
    reason     TEXT NOT NULL,             -- why it was discontinued (CID 9300), ''
    patient    BYTEA NOT NULL,            -- sealed: whom the step names
    PRIMARY KEY (tenant, step_uid)
);
CREATE TABLE performed_step_study (
    tenant    TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    step_uid  TEXT NOT NULL,
    PRIMARY KEY (tenant, study_uid, step_uid),
    FOREIGN KEY (tenant, step_uid) REFERENCES performed_step (tenant, step_uid)
);

-- One Instance Availability Notification (PS3.4 R).
CREATE TABLE availability_notice (
    tenant      TEXT NOT NULL,
    zone        TEXT NOT NULL,
    notice_uid  TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    peer        TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    number      BIGINT NOT NULL,         -- instances it speaks of
    retrievable BIGINT NOT NULL,         -- of these ONLINE or NEARLINE
    instances   BYTEA NOT NULL,           -- zlib of "SOP Instance UID, blank, availability", one a line, sorted
    PRIMARY KEY (tenant, notice_uid)
);
CREATE INDEX availability_notice_study ON availability_notice (tenant, study_uid);
