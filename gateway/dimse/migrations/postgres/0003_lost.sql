-- A received object whose file is gone from the disk: since when that was seen, NULL for not (milliseconds, 1970 UTC).
ALTER TABLE received_object ADD COLUMN lost_at BIGINT;
CREATE INDEX received_object_lost ON received_object (tenant, object_id) WHERE lost_at IS NOT NULL;
