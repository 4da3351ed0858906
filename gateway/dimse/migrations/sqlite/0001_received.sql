-- Every object that was received and kept (gateway.dimse.inbox is the only writer). Stamps: milliseconds since 1970 UTC.
CREATE TABLE received_object (
    object_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant          TEXT NOT NULL,
    zone            TEXT NOT NULL,
    object_key      TEXT NOT NULL,        -- SHA-256 of tenant, study, series and instance, hexadecimal
    digest          BLOB NOT NULL,        -- SHA-256 of transfer syntax and data set
    file            TEXT NOT NULL,        -- name of the sealed file in the folder of received objects
    keeping         TEXT NOT NULL CHECK (keeping IN ('stored', 'quarantined')),
    reason          TEXT NOT NULL,        -- stable code why it is quarantined, '' when stored
    study_uid       TEXT NOT NULL,        -- as the data set states it, print only
    series_uid      TEXT NOT NULL,
    sop_uid         TEXT NOT NULL,
    sop_class       TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    revision        INTEGER NOT NULL,       -- 1, then one more for each other object under this SOP Instance UID
    peer            TEXT NOT NULL,        -- name of the sender in the configuration, '' when found again at a start
    calling_aet     TEXT NOT NULL,
    address         TEXT NOT NULL,
    received_at     INTEGER NOT NULL,
    last_received_at INTEGER NOT NULL,
    copies          INTEGER NOT NULL        -- how often these bytes came
) STRICT;
CREATE UNIQUE INDEX received_object_once ON received_object (tenant, object_key, digest);
CREATE INDEX received_object_sop ON received_object (tenant, sop_uid);
CREATE INDEX received_object_study ON received_object (tenant, study_uid);
CREATE INDEX received_object_quarantined ON received_object (tenant, received_at) WHERE keeping = 'quarantined';
