-- Imaging orders as the RIS states them (ORM^O01, OMI^O23): kept for the peer audit, refused and cancelled ones too.
-- Numbers and patients are blind indexes, NULL for what no message stated.
CREATE TABLE imaging_order (
    order_no        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant          TEXT NOT NULL,
    requested_at    INTEGER NOT NULL,     -- by the sender's clock, of the first message that speaks of it
    study_uid       TEXT,
    placer_blind    BLOB,
    filler_blind    BLOB,
    accession_blind BLOB,
    ins_blind       BLOB
) STRICT;
CREATE INDEX imaging_order_by_study ON imaging_order (tenant, study_uid);
CREATE INDEX imaging_order_by_placer ON imaging_order (tenant, placer_blind);
CREATE INDEX imaging_order_by_filler ON imaging_order (tenant, filler_blind);
CREATE INDEX imaging_order_by_accession ON imaging_order (tenant, accession_blind);
CREATE INDEX imaging_order_by_date ON imaging_order (tenant, requested_at, order_no);

CREATE TABLE imaging_order_local_id (
    tenant      TEXT NOT NULL,
    order_no    INTEGER NOT NULL REFERENCES imaging_order (order_no),
    local_blind BLOB NOT NULL,
    PRIMARY KEY (tenant, order_no, local_blind)
) STRICT;

-- One row per message about an order: its status is what these rows make of it.
CREATE TABLE imaging_order_event (
    tenant      TEXT NOT NULL,
    order_no    INTEGER NOT NULL REFERENCES imaging_order (order_no),
    seq         INTEGER NOT NULL,
    at          INTEGER NOT NULL,         -- by the sender's clock, never later than received_at
    received_at INTEGER NOT NULL,
    control_id  TEXT NOT NULL,            -- MSH-10 of the message
    control     TEXT NOT NULL,            -- ORC-1, table 0119
    status      TEXT NOT NULL CHECK (status IN ('', 'requested', 'accepted', 'refused', 'substituted', 'cancelled')),
    other_order INTEGER NOT NULL,         -- the order that replaces this one or that this one replaces, 0 for none
    content     BLOB NOT NULL,            -- sealed: patient, requester, reasons, numbers
    PRIMARY KEY (order_no, seq)
) STRICT;

-- What patients said about being in the index (ZFA of PAM-FR).
CREATE TABLE consent (
    tenant      TEXT NOT NULL,
    consent_no  INTEGER NOT NULL,         -- order of arrival within the tenant
    received_at INTEGER NOT NULL,
    control_id  TEXT NOT NULL,            -- MSH-10 of the message
    content     BLOB NOT NULL,            -- sealed: the patient and what they decided
    PRIMARY KEY (tenant, consent_no)
) STRICT;

CREATE TABLE consent_patient (
    tenant        TEXT NOT NULL,
    patient_blind BLOB NOT NULL,          -- of the INS, and of each local identifier with its issuer
    consent_no    INTEGER NOT NULL,
    PRIMARY KEY (tenant, patient_blind, consent_no),
    FOREIGN KEY (tenant, consent_no) REFERENCES consent (tenant, consent_no)
) STRICT;
