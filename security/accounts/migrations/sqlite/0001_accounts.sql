-- Who may sign in (security.accounts.rows is the only reader and writer). Stamps: milliseconds since 1970 UTC.
CREATE TABLE account (
    name        TEXT PRIMARY KEY,         -- login name; stands in the audit trail
    person      TEXT NOT NULL,            -- as people call them
    tenant      TEXT NOT NULL,            -- the one legal entity it belongs to, '' for the installation
    roles       TEXT NOT NULL,            -- blank-separated
    profession  TEXT NOT NULL,            -- of an auditor
    status      TEXT NOT NULL CHECK (status IN ('invited', 'active', 'locked')),
    version     INTEGER NOT NULL,         -- rises with every change that ends its sessions
    password    BLOB,                     -- sealed: argon2id, PHC form
    totp        BLOB,                     -- sealed: secret of the second factor
    totp_step   INTEGER NOT NULL,         -- the last time step a code was taken for: none is taken twice
    federated   TEXT NOT NULL,            -- issuer and subject at an identity provider, '' for none
    created_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX account_federated ON account (federated) WHERE federated <> '';

-- Certificates that stand for an account; a revoked one stays, so that it never comes back.
CREATE TABLE account_certificate (
    fingerprint TEXT PRIMARY KEY,         -- SHA-256 of the DER form, lower-case hexadecimal
    account     TEXT NOT NULL REFERENCES account (name),
    certificate TEXT NOT NULL,            -- PEM
    bound_at    INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
CREATE INDEX account_certificate_of ON account_certificate (account);

-- One-time codes: the first account of an installation, and every enrolment after it.
CREATE TABLE account_code (
    digest     BLOB PRIMARY KEY,          -- SHA-256 of the code
    account    TEXT NOT NULL,             -- '' for the first account, whose name is chosen at enrolment
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;

-- Tries that failed, by whom they were aimed at or came from: never by a readable name.
CREATE TABLE account_try (
    who        BLOB PRIMARY KEY,
    failures   INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    last_at    INTEGER NOT NULL
) STRICT;

-- What two persons agree on before it is done, once.
CREATE TABLE account_consent (
    consent_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT NOT NULL,
    action     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    asked_by   TEXT NOT NULL,
    asked_at   INTEGER NOT NULL,
    given_by   TEXT NOT NULL,             -- '' until the second person agreed
    given_at   INTEGER,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;

-- Broken glass: an emergency, by whom, why, until when.
CREATE TABLE account_glass (
    glass_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    account   TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    code      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    ends_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX account_glass_of ON account_glass (account, ends_at);
