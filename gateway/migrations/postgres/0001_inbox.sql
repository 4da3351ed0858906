-- Every HL7 message that was answered, with the answer: the same message again gets the same answer again.
CREATE TABLE hl7_message (
    message_id  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT NOT NULL,
    zone        TEXT NOT NULL,
    sender      TEXT NOT NULL,            -- MSH-3 and MSH-4, '' when unreadable
    control_id  TEXT NOT NULL,            -- MSH-10, '' when unreadable
    digest      BYTEA NOT NULL,           -- SHA-256 of the received bytes
    received_at BIGINT NOT NULL,
    message_type TEXT NOT NULL,           -- MSH-9 as received
    ack_code    TEXT NOT NULL CHECK (ack_code IN ('AA', 'AE', 'AR')),
    reason      TEXT NOT NULL,            -- stable code of the first reason against it, '' for AA
    report_id   TEXT NOT NULL,            -- the report it brought in, '' when it had no effect
    ack         BYTEA NOT NULL,           -- the bytes that were answered
    content     BYTEA NOT NULL            -- sealed: the received bytes
);
CREATE UNIQUE INDEX hl7_message_once ON hl7_message (tenant, sender, control_id, digest);
CREATE INDEX hl7_message_refused ON hl7_message (tenant, received_at) WHERE ack_code <> 'AA';

-- One row that /ready rewrites: a full or failed disk shows itself before a report does.
CREATE TABLE readiness (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    asked_at BIGINT NOT NULL
);
