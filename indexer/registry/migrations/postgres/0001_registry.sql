-- The index node. Every table starts with (tenant, patient_key): patient_key is the distribution column of a
-- sharded installation. The locator alone is found by id, and answers with the patient_key.

CREATE TABLE registry_locator (
    tenant      TEXT NOT NULL,
    id          TEXT NOT NULL,          -- entryUUID or uniqueId, of whatever kind of object
    patient_key BYTEA NOT NULL,         -- blind index of the patientId (authority and identifier)
    PRIMARY KEY (tenant, id)
);

-- SubmissionSets and DocumentEntries.
CREATE TABLE registry_object (
    tenant       TEXT NOT NULL,
    patient_key  BYTEA NOT NULL,
    entry_uuid   TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('entry', 'set')),
    unique_id    TEXT NOT NULL,
    logical_id   TEXT NOT NULL,
    version      BIGINT NOT NULL,
    status       TEXT NOT NULL,         -- availabilityStatus; stands above the one in the sealed content
    object_type  TEXT NOT NULL,         -- '' for sets
    hash         TEXT NOT NULL,         -- SHA-1 hex, '' for sets
    size         BIGINT NOT NULL,       -- bytes, 0 for sets
    submitted_at BIGINT NOT NULL,
    content      BYTEA NOT NULL,        -- sealed: canonical ebRIM
    PRIMARY KEY (tenant, patient_key, entry_uuid),
    UNIQUE (tenant, patient_key, unique_id)
);

CREATE TABLE registry_association (
    tenant       TEXT NOT NULL,
    patient_key  BYTEA NOT NULL,
    entry_uuid   TEXT NOT NULL,
    type         TEXT NOT NULL,
    source       TEXT NOT NULL,
    target       TEXT NOT NULL,
    submitted_at BIGINT NOT NULL,
    content      BYTEA NOT NULL,        -- sealed: canonical ebRIM
    PRIMARY KEY (tenant, patient_key, entry_uuid)
);
CREATE INDEX registry_association_by_source ON registry_association (tenant, patient_key, source);
CREATE INDEX registry_association_by_target ON registry_association (tenant, patient_key, target);

-- The repository: bytes of the documents received by ITI-41.
CREATE TABLE registry_document (
    tenant      TEXT NOT NULL,
    patient_key BYTEA NOT NULL,
    unique_id   TEXT NOT NULL,
    mime_type   TEXT NOT NULL,
    content     BYTEA NOT NULL,         -- sealed
    PRIMARY KEY (tenant, patient_key, unique_id)
);
