-- What ties the pseudonyms of a peer audit to this site (gateway.linkage is the only writer). Never leaves it. Stamps:
-- milliseconds since 1970 UTC.
CREATE TABLE campaign_secret (
    tenant     TEXT NOT NULL,
    campaign   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    secret     BLOB NOT NULL,             -- sealed: what the campaign's keys are made from; gone, no pseudonym turns back
    PRIMARY KEY (tenant, campaign)
) STRICT;

-- One frame as it was built, committed by its root.
CREATE TABLE campaign_frame (
    tenant   TEXT NOT NULL,
    campaign TEXT NOT NULL,
    root     TEXT NOT NULL,
    source   TEXT NOT NULL CHECK (source IN ('PERFORMED', 'REQUESTED')),
    built_at INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    account  TEXT NOT NULL,               -- JSON: sizes, exclusions, counts; no patient value
    links    BLOB NOT NULL,               -- sealed: studies, requests and practitioners by their own names
    PRIMARY KEY (tenant, campaign, root),
    FOREIGN KEY (tenant, campaign) REFERENCES campaign_secret (tenant, campaign)
) STRICT;
