-- What the ground floor itself stores. Stamps: milliseconds since 1970 UTC.

-- Keys of sealed columns and blind indexes, wrapped by the key-encryption key (security.seal is the only writer).
CREATE TABLE data_key (
    tenant     TEXT NOT NULL,
    purpose    TEXT NOT NULL CHECK (purpose IN ('seal', 'blind')),
    key_id     INTEGER NOT NULL CHECK (key_id BETWEEN 1 AND 65535),  -- two bytes in the header of a sealed value
    wrapped    BLOB NOT NULL,                                        -- AES key wrap, RFC 3394
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, purpose, key_id)
) STRICT;

-- Audit rows (security.audit is the only writer). Ascending, never reused; never updated, never deleted.
CREATE TABLE audit_record (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    zone        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    event       TEXT NOT NULL,
    actor       TEXT NOT NULL,
    outcome     INTEGER NOT NULL CHECK (outcome IN (0, 4, 8, 12)),   -- EventOutcomeIndicator, PS3.15 A.5.3
    object_type TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    detail      TEXT NOT NULL,
    leaf        BLOB NOT NULL CHECK (length(leaf) = 32)              -- RFC 6962 §2.1 leaf hash
) STRICT;
CREATE INDEX audit_by_object ON audit_record (tenant, object_type, object_id, seq);
