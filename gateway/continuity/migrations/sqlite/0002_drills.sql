-- What the last drill of each kind measured.
CREATE TABLE drill (
    tenant TEXT NOT NULL,
    kind   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    rto_ms INTEGER NOT NULL,       -- from the backup's file to a database that took its first write
    rpo_ms INTEGER NOT NULL,       -- age of the oldest work that the backup lacked
    PRIMARY KEY (tenant, kind)
) STRICT;
