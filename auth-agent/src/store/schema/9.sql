-- Who did what, and what came of it. Unlike the log of changes, nobody follows it, and it holds what was refused, too.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    actor TEXT NOT NULL,
    uid INTEGER,
    gid INTEGER,
    pid INTEGER,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

CREATE INDEX audit_time ON audit (time);
