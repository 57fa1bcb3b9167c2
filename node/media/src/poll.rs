//! Where a shard waits: for its sockets, for other threads, for the time.
//!
//! Level-triggered, so a shard may stop reading whenever it has enough and is told again.

mod waker;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use waker::Alarm;
pub use waker::{Sleeper, Waker};

/// The caller's name for something registered with a [`Poller`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// What something registered is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub token: Token,
    /// Reading gives data, the end of the stream or an error.
    pub readable: bool,
    /// Writing gives progress or an error. Told only while it is asked for, but errors always are.
    pub writable: bool,
}

/// Most events one [`Poller::wait`] reports; the rest come with the next.
const MAX_EVENTS: usize = 64;

/// The waker's own event. Tokens are 32 bits, so none can be it.
const WAKER: u64 = u64::MAX;

/// An epoll instance and the [`Waker`] through which other threads end its wait.
pub struct Poller {
    epoll: OwnedFd,
    waker: Waker,
    ready: Vec<Ready>,
}

impl Poller {
    /// # Errors
    ///
    /// What the kernel says: it has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each write to it is reported once, and it need never be read.
        let interest = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &eventfd, EventData::new_u64(WAKER), interest)?;
        let waker = Waker::new(Alarm::Eventfd(Arc::new(eventfd)));
        Ok(Self {
            epoll,
            waker,
            ready: Vec::with_capacity(MAX_EVENTS),
        })
    }

    /// A handle that ends this poller's wait from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Reports from now on when `fd` is readable, under `token`.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if `fd` is registered, otherwise what the kernel says.
    pub fn register(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, data(token), EventFlags::IN)?)
    }

    /// The same, once each time that something comes: whoever is told reads until there is nothing left.
    /// Half of what a datagram's being ready costs is to look again whether it still is.
    ///
    /// # Errors
    ///
    /// As [`Self::register`].
    pub fn register_edge(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(&self.epoll, fd, data(token), interest)?)
    }

    /// Reports also, or no longer, when `fd` is writable.
    ///
    /// # Errors
    ///
    /// `NotFound` if `fd` is not registered, otherwise what the kernel says.
    pub fn watch_writable(&self, fd: impl AsFd, token: Token, writable: bool) -> io::Result<()> {
        let mut interest = EventFlags::IN;
        interest.set(EventFlags::OUT, writable);
        Ok(epoll::modify(&self.epoll, fd, data(token), interest)?)
    }

    /// Reports nothing more of `fd`. Closing its last descriptor does the same.
    ///
    /// # Errors
    ///
    /// `NotFound` if `fd` is not registered, otherwise what the kernel says.
    pub fn deregister(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready, the [`Waker`] was used since the last wait, or `timeout` is
    /// over, and says what is ready. The timeout is exact to the timer slack of the thread, 50 µs
    /// unless changed; `None` has no end.
    ///
    /// May return early with nothing.
    ///
    /// # Errors
    ///
    /// What the kernel says; interruption by a signal is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<&[Ready]> {
        let timeout = match timeout {
            Some(Duration::ZERO) => timeout,
            _ if self.waker.park() => timeout,
            _ => Some(Duration::ZERO),
        };
        // A timeout that does not fit is longer than the age of the universe.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = [const { MaybeUninit::<Event>::uninit() }; MAX_EVENTS];
        let waited = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
        self.waker.unpark();
        self.ready.clear();
        match waited {
            Ok((events, _)) => self.ready.extend(events.iter().filter_map(ready)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(&self.ready)
    }
}

fn data(token: Token) -> EventData {
    EventData::new_u64(token.0.into())
}

fn ready(event: &Event) -> Option<Ready> {
    let (flags, data) = (event.flags, event.data);
    let token = Token(u32::try_from(data.u64()).ok()?);
    let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    Some(Ready {
        token,
        readable: broken || flags.contains(EventFlags::IN),
        writable: broken || flags.contains(EventFlags::OUT),
    })
}

#[cfg(test)]
mod tests;
