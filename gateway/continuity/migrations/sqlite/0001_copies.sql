-- The newest verified copy of this database. What came after it is what a lost machine takes along.
CREATE TABLE copy (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    at            INTEGER NOT NULL,       -- when it was verified
    last_audit_no INTEGER NOT NULL,       -- newest audit record that it holds
    digest        TEXT NOT NULL           -- SHA-256 of the copy, lower-case hex
) STRICT;
