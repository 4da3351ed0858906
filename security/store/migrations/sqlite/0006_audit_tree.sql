-- The tree over the audit rows. Later fields of a record; '' where there is none.
ALTER TABLE audit_record ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_record ADD COLUMN peer    TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_record ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_record ADD COLUMN patient TEXT NOT NULL DEFAULT '';
-- 1: the content was erased at the end of its retention, the leaf stays (RFC 6962 §2.1 needs no more).
ALTER TABLE audit_record ADD COLUMN is_erased INTEGER NOT NULL DEFAULT 0 CHECK (is_erased IN (0, 1));
CREATE INDEX audit_by_time ON audit_record (at, seq);

-- Ed25519 keys that sign tree heads, wrapped by the key-encryption key; each but the first is signed by the one before.
CREATE TABLE audit_key (
    number     INTEGER PRIMARY KEY,
    public     BLOB NOT NULL CHECK (length(public) = 32),
    wrapped    BLOB NOT NULL CHECK (length(wrapped) = 40),            -- AES key wrap, RFC 3394
    created_at INTEGER NOT NULL,
    vouched    BLOB NOT NULL                                          -- by the key before; empty for the first
) STRICT;

-- Signed tree heads; ascending. Leaves of a segment: those after the head before.
CREATE TABLE audit_head (
    size      INTEGER PRIMARY KEY,
    last_seq  INTEGER NOT NULL,
    root      BLOB NOT NULL CHECK (length(root) = 32),
    segment   BLOB NOT NULL CHECK (length(segment) = 32),
    frontier  BLOB NOT NULL,                                          -- roots of the complete subtrees
    at        INTEGER NOT NULL,
    key       BLOB NOT NULL CHECK (length(key) = 32),                 -- the public key that signed
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
