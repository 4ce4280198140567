//! The old agent's side.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::channel::{Channel, Message};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::control::{Control, Followed, Held};
use crate::forward_auth::Heirloom;
use crate::kernel::Filter;
use crate::reload::Reloader;
use crate::serve::Serving;
use crate::service_manager;
use crate::store::{Store, StoreError};

/// From `go` on: putting a file in its place and starting to accept.
const SERVING_WITHIN: Duration = Duration::from_secs(10);
/// What is told of a process that ended is told soon after.
const EXIT_WITHIN: Duration = Duration::from_secs(1);
const EXIT_LOOKS: Duration = Duration::from_millis(10);

/// `run` with this takes over from the agent that started it.
const HANDOVER: &str = "--handover";

/// Why no new agent has taken over. The old one goes on, but where it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It could not be given what it needs.
    #[error("nothing has changed: the new agent can't be spoken to: {0}")]
    Channel(#[from] io::Error),
    /// It ended without a word.
    #[error(
        "nothing has changed: {} ended ({status}) before it was ready; the log has what it said", binary.display()
    )]
    Ended {
        /// The program.
        binary: PathBuf,
        /// How.
        status: String,
    },
    /// Its end would be everyone's.
    #[error(
        "nothing has changed: this agent is process 1, with which its container ends: start the container anew instead"
    )]
    First,
    /// It says why it can't serve.
    #[error("nothing has changed: the new agent can't start: {0}")]
    Failed(String),
    /// It was not ready in time, and is dead.
    #[error(
        "nothing has changed: {} was not ready within {} s, and was killed; the log may say why, --within gives it longer",
        binary.display(), within.as_secs()
    )]
    Late {
        /// The program.
        binary: PathBuf,
        /// The time.
        within: Duration,
    },
    /// It died when nothing could be taken back.
    #[error(
        "the new agent died as it took over; this one goes on, but its control socket may be gone: restart it"
    )]
    Lost,
    /// It failed when it had changed the store for itself.
    #[error(
        "the new agent failed, and before that it brought the store to schema {schema}, which this version can't open when \
         it starts: this one goes on until it ends; have the new version start before, or put {} in the database's place \
         then (and move its -wal and -shm away); it failed with: {error}", copy.display()
    )]
    Migrated {
        /// The database as it was before.
        copy: PathBuf,
        /// Why it failed.
        error: String,
        /// What the store has now.
        schema: i64,
    },
    /// It can't be started.
    #[error("nothing has changed: {}: can't start it: {source}", binary.display())]
    Start {
        /// The program.
        binary: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// This agent ends.
    #[error("nothing has changed: this agent is stopping: start the new one in its place")]
    Stopping,
    /// The store failed.
    #[error("nothing has changed: {0}")]
    Store(#[from] StoreError),
    /// One at a time.
    #[error(
        "an upgrade is under way: a new agent is starting, and nothing can be changed until it serves; try again"
    )]
    UnderWay,
}

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Program {
    arguments: Vec<OsString>,
    binary: PathBuf,
}

impl Program {
    /// Of this process.
    ///
    /// # Errors
    /// If it is not known which file it was started from.
    pub fn current() -> io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, std::env::args_os().skip(1)))
    }

    fn new(binary: PathBuf, arguments: impl Iterator<Item = OsString>) -> Self {
        // What was replaced on the disk before we looked is told so (proc_pid_exe(5)).
        const DELETED: &str = " (deleted)";
        let stripped = binary.to_str().and_then(|text| text.strip_suffix(DELETED)).map(PathBuf::from);
        let binary = stripped.filter(|_| !binary.exists()).unwrap_or(binary);
        Self { arguments: arguments.filter(|argument| argument != HANDOVER).collect(), binary }
    }

    fn heir(&self, binary: &Path, channel: Channel) -> Command {
        let mut command = Command::new(binary);
        command.args(&self.arguments).arg(HANDOVER).stdin(Stdio::from(channel.into_descriptor()));
        // Those are ours, and were used.
        for variable in ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(variable);
        }
        command
    }
}

/// What is handed over.
pub struct Parts {
    /// Changes, and the upkeep.
    pub control: Arc<Control>,
    /// The kernel half.
    pub filter: Arc<Filter>,
    /// Where proxies ask, if they do.
    pub forward_auth: Option<Heirloom>,
    /// The configuration in force.
    pub reloader: Arc<Reloader>,
    /// Listeners and connections.
    pub serving: Arc<Serving>,
    /// Its lock.
    pub store: Arc<Store>,
}

/// Has a new agent take over.
pub struct Upgrader {
    /// Until it serves, or is gone.
    child: Mutex<Option<Started>>,
    done: watch::Sender<Option<Succession>>,
    parts: Parts,
    program: Program,
    under_way: Mutex<()>,
}

/// A new agent.
struct Started {
    process: Child,
    /// It was told to serve: what this agent had may be in its hands.
    told: bool,
}

/// What there is to do for an agent that another one has taken over from.
#[derive(Clone, Debug)]
pub struct Succession {
    /// The way to the new agent, who learns by it when this one is gone.
    pub channel: Arc<Channel>,
    /// From where on what the new one changes is to be followed.
    pub followed: Followed,
}

/// A new agent that serves.
#[derive(Debug)]
pub struct Upgraded {
    /// Its program.
    pub binary: PathBuf,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

impl Upgrader {
    /// For an agent that was started so and has these parts.
    pub fn new(program: Program, parts: Parts) -> Self {
        let (child, under_way) = Default::default();
        Self { child, done: watch::Sender::new(None), parts, program, under_way }
    }

    /// Comes when a new agent has taken over.
    pub async fn done(&self) -> Succession {
        let mut done = self.done.subscribe();
        loop {
            if let Some(succession) = &*done.borrow_and_update() {
                return succession.clone();
            }
            // Its sender is in `self`.
            let _ = done.changed().await;
        }
    }

    /// For an agent that the operator stops, after [`Control::stop`]: from then on no other starts. One that is not ready is
    /// killed. One that was told to serve may do so already: it is waited for, and then told to stop in good order, too;
    /// what is left to do is what there is whenever another has taken over.
    pub async fn stop(self: &Arc<Self>) -> Option<Succession> {
        let told = match &mut *self.child() {
            Some(Started { process, told: true }) => Pid::from_child(process),
            Some(Started { process, .. }) => {
                // It may have ended by itself.
                let _ = process.kill();
                return None;
            }
            // It may just have come to serve.
            None => return self.done.borrow().clone(),
        };
        let this = Arc::clone(self);
        let settled =
            spawn_blocking(move || drop(this.under_way.lock().unwrap_or_else(PoisonError::into_inner)));
        if let Err(error) = settled.await {
            error!(%error, "waiting for the new agent broke off");
        }
        let succession = self.done.borrow().clone()?;
        if let Err(error) = kill_process(told, Signal::TERM) {
            error!(%error, "the new agent can't be told to stop, too");
        }
        Some(succession)
    }

    /// Has `binary`, or else the file that this process was started from, take over, if it is ready within this time.
    /// Blocks; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`UpgradeError`]; this agent then goes on as before.
    pub fn upgrade(&self, binary: Option<PathBuf>, within: Duration) -> Result<Upgraded, UpgradeError> {
        let _under_way = match self.under_way.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(UpgradeError::UnderWay),
        };
        if self.done.borrow().is_some() {
            return Err(UpgradeError::UnderWay);
        }
        if std::process::id() == 1 {
            return Err(UpgradeError::First);
        }
        let binary = binary.unwrap_or_else(|| self.program.binary.clone());
        info!(binary = %binary.display(), "starting a new agent in the place of this one");
        let Parts { control, filter, reloader, .. } = &self.parts;
        let (configuration, config) = (reloader.hold(), reloader.config());
        let held = control.hold()?;
        filter.step_back();
        match self.hand_over(&binary, within, &config) {
            Ok((upgraded, channel)) => {
                info!(pid = upgraded.pid, version = upgraded.version, "a new agent serves: draining");
                service_manager::succeeded_by(upgraded.pid);
                configuration.give_up();
                self.parts.forward_auth.iter().for_each(Heirloom::leave);
                let channel = Arc::new(channel);
                self.done.send_replace(Some(Succession { channel, followed: held.give_up() }));
                Ok(upgraded)
            }
            Err(error) => {
                let store = &self.parts.store;
                let error = with_schema(error, store.newer_schema(), store.copy_before_newer());
                error!(%error, "no new agent has taken over");
                self.go_on(held, &config);
                Err(error)
            }
        }
    }

    fn go_on(&self, held: Held<'_>, config: &Config) {
        let Parts { filter, serving, .. } = &self.parts;
        let mut ports = Vec::new();
        let noted = serving.each_socket(|_, socket| {
            ports.push(socket.local_addr()?.port());
            Ok(())
        });
        if let Err(error) = noted {
            error!(%error, "a listener's port is not known");
        }
        if let Err(error) = filter.take_back(&config.kernel, &ports) {
            error!(%error, "the filter is not yet as it was");
        }
        if let Err(error) = held.go_on(UnixTime::now()) {
            error!(%error, "the rules are not yet as they were");
        }
    }

    fn hand_over(
        &self,
        binary: &Path,
        within: Duration,
        config: &Config,
    ) -> Result<(Upgraded, Channel), UpgradeError> {
        let deadline = Instant::now() + within;
        let (ours, theirs) = Channel::pair()?;
        let pid = self.start(binary, theirs)?;
        let done = self.give(&ours, config).map_err(UpgradeError::from).and_then(|()| {
            let version = wait_until_ready(&ours, binary, deadline, within)?;
            self.tell()?;
            go(&ours, binary)?;
            Ok(version)
        });
        let child = self.child().take();
        match (done, child) {
            (Ok(version), _) => Ok((Upgraded { binary: binary.to_owned(), pid, version }, ours)),
            (Err(error), Some(child)) => Err(with_status(error, end(child.process))),
            (Err(error), None) => Err(error),
        }
    }

    /// Its process. Whoever stops this agent kills it, or has kept it from starting.
    fn start(&self, binary: &Path, channel: Channel) -> Result<u32, UpgradeError> {
        let mut child = self.child();
        if self.parts.control.is_stopping() {
            return Err(UpgradeError::Stopping);
        }
        let started = self.program.heir(binary, channel).spawn();
        let started = started.map_err(|source| UpgradeError::Start { binary: binary.to_owned(), source })?;
        Ok(child.insert(Started { process: started, told: false }).process.id())
    }

    /// Notes that the new agent is about to be told to serve, unless this one stops.
    fn tell(&self) -> Result<(), UpgradeError> {
        let mut child = self.child();
        if self.parts.control.is_stopping() {
            return Err(UpgradeError::Stopping);
        }
        if let Some(started) = &mut *child {
            started.told = true;
        }
        Ok(())
    }

    /// Whether or not anybody takes it: who is gone is found then.
    fn give(&self, channel: &Channel, config: &Config) -> io::Result<()> {
        match self.give_all(channel, config) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            given => given,
        }
    }

    fn give_all(&self, channel: &Channel, config: &Config) -> io::Result<()> {
        let Parts { filter, forward_auth, serving, store, .. } = &self.parts;
        if let Some(heirloom) = forward_auth {
            channel.send_with(&Message::ForwardAuth, heirloom.socket())?;
        }
        serving.each_socket(|address, socket| channel.send_with(&Message::Listener(address), socket))?;
        channel.send_with(&Message::Pins, filter.lock()?)?;
        channel.send_with(&Message::Store, store.lock()?)?;
        if let Ok(file) = fs::symlink_metadata(&config.control.socket) {
            channel.send(&Message::Control(file.ino()))?;
        }
        channel.send(&Message::Handed)
    }

    fn child(&self) -> MutexGuard<'_, Option<Started>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The new agent's version.
fn wait_until_ready(
    channel: &Channel,
    binary: &Path,
    deadline: Instant,
    within: Duration,
) -> Result<String, UpgradeError> {
    match channel.receive(Some(deadline)) {
        Ok(Some((Message::Ready { version }, _))) => Ok(version),
        Ok(Some((Message::Failed(reason), _))) => Err(UpgradeError::Failed(reason)),
        Ok(Some((message, _))) => Err(io::Error::other(format!("{message:?}")).into()),
        Ok(None) => Err(ended(binary)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(UpgradeError::Late { binary: binary.to_owned(), within })
        }
        Err(error) => Err(error.into()),
    }
}

/// Has it serve. Until it hears that, nothing of this agent's is in its hands.
fn go(channel: &Channel, binary: &Path) -> Result<(), UpgradeError> {
    channel.send(&Message::Go).map_err(|_| ended(binary))?;
    match channel.receive(Some(Instant::now() + SERVING_WITHIN)) {
        Ok(Some((Message::Serving, _))) => Ok(()),
        _ => Err(UpgradeError::Lost),
    }
}

fn ended(binary: &Path) -> UpgradeError {
    UpgradeError::Ended { binary: binary.to_owned(), status: String::new() }
}

/// Sees to it that the process is gone; how it ended, if that was by itself.
fn end(mut child: Child) -> Option<ExitStatus> {
    let patience = Instant::now() + EXIT_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < patience => std::thread::sleep(EXIT_LOOKS),
            _ => break,
        }
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        error!(%error, pid = child.id(), "the new agent can't be ended");
    }
    None
}

/// Where the new agent changed the schema, something has changed.
fn with_schema(error: UpgradeError, newer: Result<Option<i64>, StoreError>, copy: PathBuf) -> UpgradeError {
    let Ok(Some(schema)) = newer else { return error };
    let error = error.to_string();
    let error = error.strip_prefix("nothing has changed: ").unwrap_or(&error).to_owned();
    UpgradeError::Migrated { copy, error, schema }
}

fn with_status(error: UpgradeError, ended: Option<ExitStatus>) -> UpgradeError {
    match error {
        UpgradeError::Ended { binary, .. } => {
            let status = ended.map_or_else(|| "killed".to_owned(), |status| status.to_string());
            UpgradeError::Ended { binary, status }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_heir_is_started_as_this_process_was_from_the_file_of_that_name() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("agent");
        let gone = directory.path().join("agent (deleted)");
        let arguments = ["--config", "c.toml", "run", "--replace", HANDOVER].map(OsString::from);
        for (exe, exists) in [(&here, &here), (&gone, &here)] {
            let program = Program::new(exe.clone(), arguments.iter().cloned());
            assert_eq!(&program.binary, exists);
            let (channel, _other) = Channel::pair().unwrap();
            let command = program.heir(&program.binary, channel);
            let told: Vec<_> = command.get_args().collect();
            assert_eq!(told, ["--config", "c.toml", "run", "--replace", HANDOVER]);
            assert!(command.get_envs().any(|(name, value)| name == "LISTEN_FDS" && value.is_none()));
        }
        fs::write(&gone, "a strange name, but its own").unwrap();
        assert_eq!(Program::new(gone.clone(), std::iter::empty()).binary, gone);
    }

    #[test]
    fn a_new_agent_that_failed_after_it_changed_the_schema_is_told_of() {
        let failed = || UpgradeError::Failed("no listener".to_owned());
        let said = |newer| with_schema(failed(), newer, "/store/copy".into()).to_string();
        assert_eq!(said(Ok(None)), failed().to_string());
        let changed = said(Ok(Some(99)));
        assert!(changed.contains("schema 99") && changed.contains("no listener"), "{changed}");
        assert!(changed.contains("put /store/copy in the database's place"), "{changed}");
        assert!(!changed.contains("nothing has changed"), "{changed}");
    }

    #[test]
    fn what_became_of_a_process_that_did_not_take_over_is_said() {
        let started = |program: &str, argument: &str| Command::new(program).arg(argument).spawn().unwrap();
        let ended = UpgradeError::Ended { binary: "/bin/false".into(), status: String::new() };
        let said = with_status(ended, end(started("false", ""))).to_string();
        assert!(said.contains("/bin/false ended (exit status: 1) before it was ready"), "{said}");
        assert_eq!(end(started("sleep", "60")), None);
    }
}
