-- Signed lists of the network's boxes (gateway.whitelist.rows is the only writer). Stamps: milliseconds since 1970 UTC.
CREATE TABLE white_list (
    white_list_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document      BYTEA NOT NULL,     -- as it came, signature included
    sha256        BYTEA NOT NULL,
    generated_at  BIGINT NOT NULL,    -- as the list says
    signed_at     BIGINT NOT NULL,    -- as its signature says
    taken_at      BIGINT NOT NULL,
    signer        TEXT NOT NULL,      -- RFC 4514
    boxes         BIGINT NOT NULL
);

-- How the last look for a list ended.
CREATE TABLE white_list_look (
    one       BIGINT PRIMARY KEY CHECK (one = 1),
    looked_at BIGINT NOT NULL,
    code      TEXT NOT NULL,          -- '' well, else the code of the fault
    since     BIGINT NOT NULL
);
