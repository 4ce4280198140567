-- What quotas have counted: by a keyed hash of whose it is, and by the first day after the period (since 1970-01-01).
CREATE TABLE quota_counts (
    key BLOB NOT NULL,
    ends INTEGER NOT NULL,
    quota INTEGER NOT NULL,
    api_key INTEGER NOT NULL,
    principal INTEGER NOT NULL,
    source INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (key, ends)
) STRICT, WITHOUT ROWID;

CREATE INDEX quota_counts_ends ON quota_counts (ends);

-- Rates and amounts that were set while the agent ran, in place of those of the configuration.
CREATE TABLE budgets (
    name TEXT PRIMARY KEY,
    budget TEXT NOT NULL CHECK (json_valid(budget)),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
