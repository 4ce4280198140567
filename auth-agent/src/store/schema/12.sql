-- What is owed to limits beyond a burst, by a keyed hash of whose it is: nanoseconds, as they were when they were written
-- (since 1970-01-01).
CREATE TABLE request_debts (
    key BLOB PRIMARY KEY,
    request_limit INTEGER NOT NULL,
    api_key INTEGER NOT NULL,
    principal INTEGER NOT NULL,
    source INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    owed INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
