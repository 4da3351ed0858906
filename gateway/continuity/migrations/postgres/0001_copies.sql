-- The newest verified copy of this database. What came after it is what a lost machine takes along.
CREATE TABLE copy (
    one           BIGINT PRIMARY KEY CHECK (one = 1),
    at            BIGINT NOT NULL,       -- when it was verified
    last_audit_no BIGINT NOT NULL,       -- newest audit record that it holds
    digest        TEXT NOT NULL           -- SHA-256 of the copy, lower-case hex
);
