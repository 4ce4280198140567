-- Networks that pass every limit and ban, besides those of the configuration.
CREATE TABLE allows (
    network TEXT PRIMARY KEY,
    reason TEXT,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
