-- Imaging orders as the RIS states them (ORM^O01, OMI^O23): kept for the peer audit, refused and cancelled ones too.
-- Numbers and patients are blind indexes, NULL for what no message stated.
CREATE TABLE imaging_order (
    order_no        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          TEXT NOT NULL,
    requested_at    BIGINT NOT NULL,     -- by the sender's clock, of the first message that speaks of it
    study_uid       TEXT,
    placer_blind    BYTEA,
    filler_blind    BYTEA,
    accession_blind BYTEA,
    ins_blind       BYTEA
);
CREATE INDEX imaging_order_by_study ON imaging_order (tenant, study_uid);
CREATE INDEX imaging_order_by_placer ON imaging_order (tenant, placer_blind);
CREATE INDEX imaging_order_by_filler ON imaging_order (tenant, filler_blind);
CREATE INDEX imaging_order_by_accession ON imaging_order (tenant, accession_blind);
CREATE INDEX imaging_order_by_date ON imaging_order (tenant, requested_at, order_no);

CREATE TABLE imaging_order_local_id (
    tenant      TEXT NOT NULL,
    order_no    BIGINT NOT NULL REFERENCES imaging_order (order_no),
    local_blind BYTEA NOT NULL,
    PRIMARY KEY (tenant, order_no, local_blind)
);

-- One row per message about an order: its status is what these rows make of it.
CREATE TABLE imaging_order_event (
    tenant      TEXT NOT NULL,
    order_no    BIGINT NOT NULL REFERENCES imaging_order (order_no),
    seq         BIGINT NOT NULL,
    at          BIGINT NOT NULL,         -- by the sender's clock, never later than received_at
    received_at BIGINT NOT NULL,
    control_id  TEXT NOT NULL,            -- MSH-10 of the message
    control     TEXT NOT NULL,            -- ORC-1, table 0119
    status      TEXT NOT NULL CHECK (status IN ('', 'requested', 'accepted', 'refused', 'substituted', 'cancelled')),
    other_order BIGINT NOT NULL,         -- the order that replaces this one or that this one replaces, 0 for none
    content     BYTEA NOT NULL,            -- sealed: patient, requester, reasons, numbers
    PRIMARY KEY (order_no, seq)
);

-- What patients said about being in the index (ZFA of PAM-FR).
CREATE TABLE consent (
    tenant      TEXT NOT NULL,
    consent_no  BIGINT NOT NULL,         -- order of arrival within the tenant
    received_at BIGINT NOT NULL,
    control_id  TEXT NOT NULL,            -- MSH-10 of the message
    content     BYTEA NOT NULL,            -- sealed: the patient and what they decided
    PRIMARY KEY (tenant, consent_no)
);

CREATE TABLE consent_patient (
    tenant        TEXT NOT NULL,
    patient_blind BYTEA NOT NULL,          -- of the INS, and of each local identifier with its issuer
    consent_no    BIGINT NOT NULL,
    PRIMARY KEY (tenant, patient_blind, consent_no),
    FOREIGN KEY (tenant, consent_no) REFERENCES consent (tenant, consent_no)
);
