-- Limits of networks, besides those of the configuration, which they win over. Left-out limits are as configured.
CREATE TABLE limits (
    network TEXT PRIMARY KEY,
    limits TEXT NOT NULL CHECK (json_valid(limits)),
    reason TEXT,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
