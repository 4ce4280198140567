//! The threads that serve: each with a runtime of its own, so that a connection, its requests and the way to their
//! upstream stay on one processor and wake nobody else.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads; they end when this is dropped, with whatever they are at.
#[derive(Debug)]
pub(super) struct Workers {
    places: Places,
    /// Dropped, they end.
    _threads: Vec<Thread>,
}

/// Where connections can go.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<[Place]>);

#[derive(Debug)]
struct Place {
    handle: Handle,
    /// Connections on this thread.
    load: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Thread {
    join: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Workers {
    /// So many threads; at least one.
    ///
    /// # Errors
    /// Where the system gives none.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let started: Vec<_> = (0..count.max(1)).map(Thread::start).collect::<io::Result<_>>()?;
        let (threads, handles): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        let places = handles.into_iter().map(|handle| Place { handle, load: Arc::default() }).collect();
        Ok(Self { places: Places(places), _threads: threads })
    }

    /// Where connections can go; nowhere once this is dropped.
    pub(super) fn places(&self) -> Places {
        self.places.clone()
    }
}

impl Places {
    /// A place on the thread with the fewest connections.
    pub(super) fn seat(&self) -> Option<Seat> {
        let place = self.0.iter().min_by_key(|place| place.load.load(Relaxed))?;
        place.load.fetch_add(1, Relaxed);
        Some(Seat { handle: place.handle.clone(), load: Arc::clone(&place.load) })
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<(Self, Handle)> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = mpsc::sync_channel(1);
        // What a test listens to on its thread is said on this one.
        #[cfg(test)]
        let log = tracing::dispatcher::get_default(Clone::clone);
        let join = thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            #[cfg(test)]
            let _log = tracing::dispatcher::set_default(&log);
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(runtime.handle().clone()));
            // Either way, it is time.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        let handle = started.recv().map_err(io::Error::other)??;
        Ok((Self { join: Some(join), stop: Some(stop) }, handle))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.join.take() {
            // What panicked there was its own affair.
            let _ = thread.join();
        }
    }
}

/// A connection's place on a thread.
#[derive(Debug)]
pub(super) struct Seat {
    handle: Handle,
    load: Arc<AtomicUsize>,
}

impl Seat {
    /// Runs the connection on this thread.
    pub(super) fn spawn(self, connection: impl Future<Output = ()> + Send + 'static) {
        let handle = self.handle.clone();
        handle.spawn(async move {
            let seat = self;
            connection.await;
            drop(seat);
        });
    }

    /// Whether the caller runs on this thread.
    pub(super) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.handle.id())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are_and_leave_their_place() {
        let workers = Workers::start(3).unwrap();
        let places = workers.places();
        let loads = || places.0.iter().map(|place| place.load.load(Relaxed)).collect::<Vec<_>>();
        let mut seats: Vec<_> = (0..7).map(|_| places.seat().unwrap()).collect();
        assert_eq!(loads(), [3, 2, 2]);
        seats.remove(1);
        assert_eq!(loads(), [3, 1, 2]);
        seats.push(places.seat().unwrap());
        assert_eq!(loads(), [3, 2, 2]);
        drop(seats);
        assert_eq!(loads(), [0, 0, 0]);
    }

    #[test]
    fn what_is_spawned_runs_on_the_thread_of_its_place_until_the_threads_end() {
        let workers = Workers::start(2).unwrap();
        let places = workers.places();
        let (sender, receiver) = mpsc::channel();
        let seat = places.seat().unwrap();
        assert!(!seat.is_here());
        let here = Seat { handle: seat.handle.clone(), load: Arc::clone(&seat.load) };
        here.load.fetch_add(1, Relaxed);
        seat.spawn(async move {
            sender.send((here.is_here(), thread::current().name().map(str::to_owned))).unwrap();
            pending::<()>().await;
        });
        assert_eq!(receiver.recv().unwrap(), (true, Some("serve-0".to_owned())));
        drop(workers);
    }
}
