-- Times are seconds since 1970; a time that is NULL never comes, or has not come.

CREATE TABLE host (
    id TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    name TEXT NOT NULL,
    note TEXT,
    scopes TEXT NOT NULL CHECK (json_valid(scopes)),
    networks TEXT NOT NULL CHECK (json_valid(networks)),
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    last_used INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE bans (
    network TEXT PRIMARY KEY,
    until INTEGER,
    reason TEXT,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX bans_until ON bans (until) WHERE until IS NOT NULL;

-- Every change of the tables above, in order: the audit log, and what other hosts will be told.
-- A change means nothing after its expiry.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    expires INTEGER
) STRICT;

CREATE INDEX changes_expires ON changes (expires) WHERE expires IS NOT NULL;
