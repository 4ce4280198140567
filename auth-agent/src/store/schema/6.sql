-- What is revoked; see `revocation.rs`. The mark is made of the target.
CREATE TABLE revocations (
    mark BLOB PRIMARY KEY CHECK (length(mark) = 16),
    target TEXT NOT NULL CHECK (json_valid(target)),
    before INTEGER,
    until INTEGER,
    reason TEXT,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_until ON revocations (until) WHERE until IS NOT NULL;

-- Who revokes a subject asks whether keys go by its name.
CREATE INDEX api_keys_name ON api_keys (name) WHERE revoked IS NULL;
