-- ITI-57 brings new versions of an entry's metadata: same document, same logicalId, another entryUUID.
CREATE TABLE registry_object_versioned (
    tenant       TEXT NOT NULL,
    patient_key  BLOB NOT NULL,
    entry_uuid   TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('entry', 'set')),
    unique_id    TEXT NOT NULL,
    logical_id   TEXT NOT NULL,
    version      INTEGER NOT NULL,
    status       TEXT NOT NULL,         -- availabilityStatus; stands above the one in the sealed content
    object_type  TEXT NOT NULL,         -- '' for sets
    hash         TEXT NOT NULL,         -- SHA-1 hex, '' for sets
    size         INTEGER NOT NULL,      -- bytes, 0 for sets
    submitted_at INTEGER NOT NULL,
    content      BLOB NOT NULL,         -- sealed: canonical ebRIM
    PRIMARY KEY (tenant, patient_key, entry_uuid),
    UNIQUE (tenant, patient_key, unique_id, version)
) STRICT;
INSERT INTO registry_object_versioned (tenant, patient_key, entry_uuid, kind, unique_id, logical_id, version, status,
    object_type, hash, size, submitted_at, content)
    SELECT tenant, patient_key, entry_uuid, kind, unique_id, logical_id, version, status, object_type, hash, size,
        submitted_at, content FROM registry_object;
DROP TABLE registry_object;
ALTER TABLE registry_object_versioned RENAME TO registry_object;
