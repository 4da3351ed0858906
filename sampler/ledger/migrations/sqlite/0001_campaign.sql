-- Everything about campaigns of peer audit, as versions: a correction is a new row, nothing is changed or deleted.
CREATE TABLE campaign_row (
    tenant     TEXT NOT NULL,
    campaign   TEXT NOT NULL,
    kind       TEXT NOT NULL,       -- campaign, grid, protocol, frame, transcript, case, review, finding, …
    id         TEXT NOT NULL,       -- within its kind
    version    INTEGER NOT NULL,    -- 1, 2, 3… of this id
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    digest     BLOB NOT NULL,       -- SHA-256 of the content in clear; the audit record of the version states it too
    content    BLOB NOT NULL,       -- sealed: JSON
    PRIMARY KEY (tenant, campaign, kind, id, version)
) STRICT;
