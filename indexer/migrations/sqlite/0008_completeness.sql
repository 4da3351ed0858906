-- What decides whether the images of an exam are complete (indexer.completeness). A row stands as long as an
-- exam waits for its images: the rows, not a timer, say when it is looked at again.
CREATE TABLE sighting (
    tenant      TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    digest      BLOB,                     -- SHA-256 of the SOP Instance UIDs the PACS listed, NULL before the first look
    instances   INTEGER NOT NULL DEFAULT 0,
    first_at    INTEGER,                  -- first of the looks that saw exactly these
    last_at     INTEGER,                  -- and the last one
    arrived_at  INTEGER,                  -- last sign that images came in
    waits_since INTEGER,                  -- since when the exam has waited
    hurried_by  TEXT NOT NULL DEFAULT '', -- the person who does not want it to wait
    PRIMARY KEY (tenant, study_uid),
    FOREIGN KEY (tenant, study_uid) REFERENCES exam (tenant, study_uid)
) STRICT;
