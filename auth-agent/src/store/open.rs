//! Opening: the directory, the lock, the database file and its schema.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::rand;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Problem, Store, StoreError};
use crate::clock::UnixTime;
use crate::kernel::same_file;

const DATABASE: &str = "auth-agent.db";
const LOCK: &str = "lock";

/// Marks a database as ours: "aag1".
const APPLICATION_ID: i64 = 0x6161_6731;

/// Step n brings schema n to n + 1. Never edit one that was released: append.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
    include_str!("schema/11.sql"),
    include_str!("schema/12.sql"),
];

/// The schema that this program works with.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Longer than any of our own writes, short enough to answer the operator.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn open(directory: &Path, handed: Option<File>, now: UnixTime) -> Result<Store, StoreError> {
    make_directory(directory).map_err(|problem| StoreError { path: directory.to_owned(), problem })?;
    let lock_path = directory.join(LOCK);
    let lock = lock(&lock_path, handed).map_err(|problem| StoreError { path: lock_path, problem })?;
    let path = directory.join(DATABASE);
    match connect(&path, now) {
        Ok((connection, origin)) => Ok(Store { connection: Mutex::new(connection), lock, origin, path }),
        Err(problem) => Err(StoreError { path, problem }),
    }
}

fn io_problem(action: &'static str) -> impl FnOnce(io::Error) -> Problem {
    move |source| Problem::Io { action, source }
}

fn make_directory(directory: &Path) -> Result<(), Problem> {
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => Err(Problem::NotADirectory),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => Err(Problem::Mode { mode: metadata.mode() & 0o7777 }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(io_problem("make the store's directory"))
        }
        Err(error) => Err(io_problem("read the store's directory")(error)),
    }
}

/// The kernel drops the lock with the last process that has it, however that ends: no stale locks.
fn lock(path: &Path, handed: Option<File>) -> Result<File, Problem> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(io_problem("open the lock file"))?;
    match handed {
        // The note stays its holder's: it may go on.
        Some(handed) if same_file(&handed, &file).map_err(io_problem("compare the lock file"))? => {
            return Ok(handed);
        }
        _ => {}
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message: an unreadable one is simply not told.
            let _ = file.take(16).read_to_string(&mut pid);
            return Err(Problem::Held { pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(io_problem("lock the lock file")(error)),
    }
    note_holder(&file)?;
    Ok(file)
}

/// Writes down, for people, that this process has the lock.
pub(super) fn note_holder(mut lock: &File) -> Result<(), Problem> {
    let noted =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    noted.map_err(io_problem("write the lock file"))
}

fn connect(path: &Path, now: UnixTime) -> Result<(Connection, String), Problem> {
    // SQLite would make it with the umask's mode; its side files follow the mode of this one.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(io_problem("open the database"))?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let schema = recognise(&connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    quick_check(&connection)?;
    if (1..MIGRATIONS.len()).contains(&schema) {
        copy(&connection, &copy_of(path, schema as i64))?;
    }
    migrate(&mut connection, schema..MIGRATIONS.len(), now)?;
    let origin = connection.query_row("SELECT id FROM host", [], |row| row.get(0))?;
    sync_directory(path).map_err(io_problem("flush the store's directory"))?;
    Ok((connection, origin))
}

/// The schema number; 0: empty, to be filled.
fn recognise(connection: &Connection) -> Result<usize, Problem> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    match (application, usize::try_from(found)) {
        (0, Ok(0)) if tables == 0 => Ok(0),
        (APPLICATION_ID, Ok(schema @ 1..)) if schema <= known => Ok(schema),
        (APPLICATION_ID, Ok(1..)) => Err(Problem::NewerSchema { found, known: known as i64 }),
        _ => Err(Problem::Foreign),
    }
}

fn quick_check(connection: &Connection) -> Result<(), Problem> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Problem::Corrupt(verdict.replace('\n', " "))) }
}

/// Where the database is left as it was with an older schema: programs that know no newer one can be given it.
pub(super) fn copy_of(database: &Path, schema: i64) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".schema-{schema}"));
    name.into()
}

fn copy(connection: &Connection, to: &Path) -> Result<(), Problem> {
    let made = match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // SQLite would make it with the umask's mode, and writes only to an empty one.
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map(drop),
    };
    made.map_err(io_problem("copy the database before its schema changes"))?;
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io_problem("flush the database's copy"))
}

fn migrate(connection: &mut Connection, steps: Range<usize>, now: UnixTime) -> Result<(), Problem> {
    for (step, sql) in MIGRATIONS.iter().enumerate().take(steps.end).skip(steps.start) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(sql)?;
        if step == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.execute("INSERT INTO host (id, created) VALUES (?1, ?2)", (host_id()?, now))?;
        }
        transaction.pragma_update(None, "user_version", step as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn host_id() -> Result<String, Problem> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| io_problem("make a host id")(io::Error::other("no random bytes")))?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A new database survives a power cut only if its name does.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `migrate` finds: a database as a program that knew less left it.
    fn older(path: &Path, schema: usize) {
        let mut connection = Connection::open(path).unwrap();
        migrate(&mut connection, 0..schema, UnixTime(1)).unwrap();
        connection.execute_batch("INSERT INTO bans (network, created) VALUES ('192.0.2.1/32', 1)").unwrap();
    }

    #[test]
    fn a_database_is_left_as_it_was_before_its_schema_changes() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        make_directory(&directory).unwrap();
        let path = directory.join(DATABASE);
        let before = MIGRATIONS.len() - 1;
        let copy = copy_of(&path, before as i64);
        fs::write(&copy, "of an attempt before").unwrap();
        older(&path, before);
        drop(open(&directory, None, UnixTime(2)).unwrap());
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o600);
        // As the program of then opens it.
        let connection = Connection::open(&copy).unwrap();
        assert_eq!(recognise(&connection).unwrap(), before);
        quick_check(&connection).unwrap();
        let bans: i64 = connection.query_row("SELECT count(*) FROM bans", [], |row| row.get(0)).unwrap();
        assert_eq!(bans, 1);
        drop(connection);
        // In the place of the database, it is one; and nothing is copied that does not change.
        for file in [path.clone(), path.with_extension("db-wal"), path.with_extension("db-shm")] {
            let _ = fs::remove_file(file);
        }
        fs::rename(&copy, &path).unwrap();
        drop(open(&directory, None, UnixTime(3)).unwrap());
        fs::remove_file(&copy).unwrap();
        drop(open(&directory, None, UnixTime(4)).unwrap());
        assert!(!copy.exists());
    }
}
