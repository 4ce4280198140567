-- Changes that are undone at their deadline, unless somebody confirms them.
CREATE TABLE pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    deadline INTEGER NOT NULL
) STRICT;

-- What was there before: the row that `network` had in the table `list`, NULL where it had none.
CREATE TABLE undo (
    list TEXT NOT NULL,
    network TEXT NOT NULL,
    pending INTEGER NOT NULL REFERENCES pending (id) ON DELETE CASCADE,
    previous TEXT CHECK (json_valid(previous)),
    PRIMARY KEY (list, network, pending)
) STRICT, WITHOUT ROWID;

CREATE INDEX undo_pending ON undo (pending);
