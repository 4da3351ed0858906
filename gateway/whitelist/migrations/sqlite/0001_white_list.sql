-- Signed lists of the network's boxes (gateway.whitelist.rows is the only writer). Stamps: milliseconds since 1970 UTC.
CREATE TABLE white_list (
    white_list_id INTEGER PRIMARY KEY AUTOINCREMENT,
    document      BLOB NOT NULL,      -- as it came, signature included
    sha256        BLOB NOT NULL,
    generated_at  INTEGER NOT NULL,   -- as the list says
    signed_at     INTEGER NOT NULL,   -- as its signature says
    taken_at      INTEGER NOT NULL,
    signer        TEXT NOT NULL,      -- RFC 4514
    boxes         INTEGER NOT NULL
) STRICT;

-- How the last look for a list ended.
CREATE TABLE white_list_look (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    looked_at INTEGER NOT NULL,
    code      TEXT NOT NULL,          -- '' well, else the code of the fault
    since     INTEGER NOT NULL
) STRICT;
