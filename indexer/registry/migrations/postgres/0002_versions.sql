-- ITI-57 brings new versions of an entry's metadata: same document, same logicalId, another entryUUID.
ALTER TABLE registry_object DROP CONSTRAINT registry_object_tenant_patient_key_unique_id_key;
ALTER TABLE registry_object ADD UNIQUE (tenant, patient_key, unique_id, version);
