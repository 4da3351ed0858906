CREATE TABLE note (
    number BIGINT PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   TEXT NOT NULL
);
CREATE TABLE echo (
    number BIGINT PRIMARY KEY REFERENCES note (number),
    tenant TEXT NOT NULL
);
CREATE TABLE value (
    number BIGINT,
    real   DOUBLE PRECISION,
    text   TEXT,
    blob   BYTEA
);
