-- Bans that nobody made: for which offence, and the how manieth of their source. NULL for an operator's.
ALTER TABLE bans ADD COLUMN offence TEXT;
ALTER TABLE bans ADD COLUMN times INTEGER;

-- How often a source was banned that way, until it counts as new.
CREATE TABLE offenders (
    network TEXT PRIMARY KEY,
    times INTEGER NOT NULL,
    forget INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX offenders_forget ON offenders (forget);
