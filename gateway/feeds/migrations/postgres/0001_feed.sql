-- How far each audit repository has the trail.
CREATE TABLE audit_feed (
    name         TEXT PRIMARY KEY,
    delivered    BIGINT NOT NULL DEFAULT 0,   -- number of the last record it acknowledged
    sending      BIGINT NOT NULL DEFAULT 0,   -- last record of the batch in hand; equal to delivered: none
    head         BIGINT NOT NULL DEFAULT 0,   -- size of the last signed head it acknowledged
    sending_head BIGINT NOT NULL DEFAULT 0,
    delivered_at BIGINT NOT NULL DEFAULT 0,
    CHECK (sending >= delivered)
);
