CREATE TABLE note (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE TABLE echo (
    number INTEGER PRIMARY KEY REFERENCES note (number),
    tenant TEXT NOT NULL
) STRICT;
CREATE TABLE value (
    number INTEGER,
    real   REAL,
    text   TEXT,
    blob   BLOB
) STRICT;
