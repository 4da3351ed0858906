-- What is wrong now or was (gateway.alerts.rows is the only writer). Stamps: milliseconds since 1970 UTC.
CREATE TABLE alert (
    alert_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant    TEXT NOT NULL,              -- '' for the installation
    kind      TEXT NOT NULL,
    subject   TEXT NOT NULL,              -- reason code, file or PACS; no patient value
    measure   INTEGER NOT NULL,           -- exams, bytes, milliseconds, seconds or days, as the kind has it
    stage     INTEGER NOT NULL,           -- how bad; more is worse
    why       TEXT NOT NULL,              -- JSON: exams by reason, {} when the subject says it all
    opened_at INTEGER NOT NULL,
    seen_at   INTEGER NOT NULL,           -- last look that found it
    closed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX alert_open ON alert (tenant, kind, subject) WHERE closed_at IS NULL;

-- What each channel was told of each alert that it must know of.
CREATE TABLE alert_delivery (
    alert_id   INTEGER NOT NULL REFERENCES alert (alert_id),
    channel    TEXT NOT NULL,             -- mail, webhook
    told_at    INTEGER,                   -- NULL: never
    told_stage INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,          -- failed ones since it was last told
    not_before INTEGER NOT NULL,
    failure    TEXT NOT NULL,             -- code of the last failed attempt, '' after a good one
    done       INTEGER NOT NULL CHECK (done IN (0, 1)), -- its end was told too
    PRIMARY KEY (alert_id, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_untold ON alert_delivery (channel) WHERE done = 0;
