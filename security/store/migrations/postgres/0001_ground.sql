-- What the ground floor itself stores. Stamps: milliseconds since 1970 UTC.

-- Keys of sealed columns and blind indexes, wrapped by the key-encryption key (security.seal is the only writer).
CREATE TABLE data_key (
    tenant     TEXT NOT NULL,
    purpose    TEXT NOT NULL CHECK (purpose IN ('seal', 'blind')),
    key_id     BIGINT NOT NULL CHECK (key_id BETWEEN 1 AND 65535),   -- two bytes in the header of a sealed value
    wrapped    BYTEA NOT NULL,                                       -- AES key wrap, RFC 3394
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, purpose, key_id)
);

-- Audit rows (security.audit is the only writer). Ascending, never reused; never updated, never deleted.
CREATE TABLE audit_record (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT NOT NULL,
    zone        TEXT NOT NULL,
    at          BIGINT NOT NULL,
    event       TEXT NOT NULL,
    actor       TEXT NOT NULL,
    outcome     BIGINT NOT NULL CHECK (outcome IN (0, 4, 8, 12)),    -- EventOutcomeIndicator, PS3.15 A.5.3
    object_type TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    detail      TEXT NOT NULL,
    leaf        BYTEA NOT NULL CHECK (length(leaf) = 32)             -- RFC 6962 §2.1 leaf hash
);
CREATE INDEX audit_by_object ON audit_record (tenant, object_type, object_id, seq);
