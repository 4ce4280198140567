-- Who answers for an API key, its own request limit, and which key was made in place of which.
ALTER TABLE api_keys ADD COLUMN owner TEXT;
ALTER TABLE api_keys ADD COLUMN rate_events INTEGER;
ALTER TABLE api_keys ADD COLUMN rate_seconds INTEGER;
ALTER TABLE api_keys ADD COLUMN rate_burst INTEGER;
ALTER TABLE api_keys ADD COLUMN replaces TEXT;
ALTER TABLE api_keys ADD COLUMN replaced_by TEXT;

-- Keys are listed oldest first, a page at a time, and those that are valid counted.
CREATE INDEX api_keys_created ON api_keys (created, id, revoked, expires);

-- Signing keys of the built-in issuer. The private half is sealed with the secret beside the database.
CREATE TABLE signing_keys (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kid TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL,
    signs_from INTEGER NOT NULL
) STRICT;
