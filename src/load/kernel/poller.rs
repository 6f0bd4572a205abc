//! Which sockets have something to do.

use core::fmt;
use core::mem::MaybeUninit;
use core::str::FromStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::load::report::CoreReport;
use crate::node::IdlePolicy;

/// How a loop over kernel sockets waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// It does not: it asks the sockets again and again, a single one by reading from it, several with
    /// an `epoll_wait` that returns at once.
    #[default]
    Spin,
    /// It sleeps in `epoll_wait`.
    Epoll,
}

impl FromStr for Poll {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "spin" => Ok(Self::Spin),
            "epoll" => Ok(Self::Epoll),
            _ => Err(format!("unknown way to poll '{name}': use spin or epoll")),
        }
    }
}

impl fmt::Display for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Epoll => "epoll",
        })
    }
}

/// Sockets that `epoll_wait` tells of at once.
const EVENTS: usize = 64;
/// Sockets up to which spinning reads from each without asking first.
const DIRECT: usize = 1;
/// Idle turns before [`IdlePolicy::Sleep`] sleeps.
const SLEEP_AFTER: u32 = 1_000;

/// A set of sockets.
#[derive(Debug)]
pub(super) struct Poller {
    poll: Poll,
    idle: IdlePolicy,
    idle_turns: u32,
    epoll: OwnedFd,
    tokens: Vec<usize>,
    meter: Option<Meter>,
}

/// How the time of a loop was spent, since the end of its first turn.
#[derive(Clone, Copy, Debug)]
struct Meter {
    begin: Instant,
    /// End of the turn before.
    last: Instant,
    /// The time of turns in which something was done.
    worked: Duration,
    /// Time on the CPU at the beginning.
    cpu_begin: Duration,
}

/// Time that this thread has spent on a CPU.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

impl Poller {
    /// An empty set. `idle` is what spinning does when there is nothing to do.
    pub(super) fn new(poll: Poll, idle: IdlePolicy) -> io::Result<Self> {
        let several_cpus = thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        let idle = match idle {
            IdlePolicy::Auto if several_cpus => IdlePolicy::Spin,
            IdlePolicy::Auto => IdlePolicy::Yield,
            idle => idle,
        };
        Ok(Self {
            poll,
            idle,
            idle_turns: 0,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            tokens: Vec::new(),
            meter: None,
        })
    }

    /// One more socket, from which is to be read.
    pub(super) fn add(&mut self, socket: &impl AsFd, token: usize) -> io::Result<()> {
        epoll::add(&self.epoll, socket, data(token), EventFlags::IN)?;
        self.tokens.push(token);
        Ok(())
    }

    /// What is to be done with a socket from now on.
    pub(super) fn set_interest(
        &self,
        socket: &impl AsFd,
        token: usize,
        reads: bool,
        writes: bool,
    ) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, reads);
        flags.set(EventFlags::OUT, writes);
        Ok(epoll::modify(&self.epoll, socket, data(token), flags)?)
    }

    /// A socket is to be closed.
    pub(super) fn remove(&mut self, socket: &impl AsFd, token: usize) {
        // A socket that is not there any more needs no removing.
        let _ = epoll::delete(&self.epoll, socket);
        self.tokens.retain(|&other| other != token);
    }

    /// Puts the tokens of the sockets that should be looked at into `ready`; waits for one, at most for
    /// `patience`, if this poller waits at all.
    pub(super) fn wait(&mut self, patience: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let patience = match self.poll {
            Poll::Spin if self.tokens.len() <= DIRECT => {
                ready.extend_from_slice(&self.tokens);
                return Ok(());
            }
            Poll::Spin => Duration::ZERO,
            Poll::Epoll => patience,
        };
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => {
                ready.extend(events.iter().map(|event| event.data.u64() as usize));
                Ok(())
            }
            // A signal: whoever waits looks at the stop flag next.
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn note_turn(&mut self, worked: bool) {
        let now = Instant::now();
        match &mut self.meter {
            None => {
                let cpu_begin = cpu_time();
                self.meter =
                    Some(Meter { begin: now, last: now, worked: Duration::ZERO, cpu_begin });
            }
            Some(meter) => {
                if worked {
                    meter.worked += now.duration_since(meter.last);
                }
                meter.last = now;
            }
        }
    }

    /// How busy the loop was so far; to be asked on its own thread. A loop that sleeps is busy when it is
    /// on a CPU, one that spins in turns in which something was done.
    pub(super) fn usage(&self) -> CoreReport {
        let Some(meter) = self.meter else { return CoreReport::default() };
        let busy = match self.poll {
            Poll::Epoll => cpu_time().saturating_sub(meter.cpu_begin),
            Poll::Spin => meter.worked,
        };
        CoreReport {
            name: String::new(),
            busy_ns: busy.as_nanos() as u64,
            total_ns: meter.last.duration_since(meter.begin).as_nanos() as u64,
        }
    }

    /// Whether the loop sleeps in [`Self::wait`].
    const fn sleeps(&self) -> bool {
        matches!(self.poll, Poll::Epoll)
    }

    /// A turn of the loop is over in which something was done, or nothing.
    pub(super) fn turned(&mut self, worked: bool) {
        self.note_turn(worked);
        if worked || self.sleeps() {
            self.idle_turns = 0;
            return;
        }
        self.idle_turns = self.idle_turns.saturating_add(1);
        match self.idle {
            IdlePolicy::Yield => thread::yield_now(),
            IdlePolicy::Pause => core::hint::spin_loop(),
            IdlePolicy::Sleep if self.idle_turns > SLEEP_AFTER => {
                thread::sleep(Duration::from_micros(50));
            }
            IdlePolicy::Auto | IdlePolicy::Spin | IdlePolicy::Sleep => {}
        }
    }
}

fn data(token: usize) -> EventData {
    EventData::new_u64(token as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ready(poller: &mut Poller, patience: Duration) -> Vec<usize> {
        let mut ready = vec![99];
        poller.wait(patience, &mut ready).unwrap();
        ready.sort_unstable();
        ready
    }

    #[test]
    fn several_sockets_are_asked_which_is_ready() {
        for poll in [Poll::Spin, Poll::Epoll] {
            let mut poller = Poller::new(poll, IdlePolicy::Yield).unwrap();
            let (a, mut to_a) = UnixStream::pair().unwrap();
            let (b, _to_b) = UnixStream::pair().unwrap();
            poller.add(&a, 1).unwrap();
            poller.add(&b, 2).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), [0; 0], "{poll}");
            to_a.write_all(b"x").unwrap();
            assert_eq!(ready(&mut poller, Duration::from_secs(10)), [1], "{poll}");
            poller.set_interest(&b, 2, false, true).unwrap();
            assert_eq!(ready(&mut poller, Duration::ZERO), [1, 2], "{poll}");
            poller.remove(&b, 2);
            let expected: &[usize] = &[1];
            assert_eq!(ready(&mut poller, Duration::ZERO), expected, "{poll}");
        }
    }

    #[test]
    fn loops_that_sleep_are_not_busy() {
        let mut poller = Poller::new(Poll::Epoll, IdlePolicy::Spin).unwrap();
        assert_eq!(poller.usage(), CoreReport::default());
        poller.turned(true);
        poller.wait(Duration::from_millis(50), &mut Vec::new()).unwrap();
        poller.turned(false);
        let usage = poller.usage();
        assert!(usage.total_ns >= 50_000_000 && usage.busy_ns < usage.total_ns, "{usage:?}");
    }

    #[test]
    fn turns_that_did_something_are_busy() {
        let mut poller = Poller::new(Poll::Spin, IdlePolicy::Spin).unwrap();
        poller.turned(false);
        thread::sleep(Duration::from_millis(5));
        poller.turned(false);
        assert_eq!(poller.usage().busy_ns, 0);
        thread::sleep(Duration::from_millis(5));
        poller.turned(true);
        let usage = poller.usage();
        assert!((5_000_000..=usage.total_ns - 5_000_000).contains(&usage.busy_ns), "{usage:?}");
    }

    #[test]
    fn a_single_socket_is_read_without_asking() {
        let mut poller = Poller::new(Poll::Spin, IdlePolicy::Spin).unwrap();
        let (a, _to_a) = UnixStream::pair().unwrap();
        poller.add(&a, 7).unwrap();
        assert_eq!(ready(&mut poller, Duration::MAX), [7]);
        assert!("spin".parse() == Ok(Poll::Spin) && "epoll".parse() == Ok(Poll::Epoll));
        assert!("select".parse::<Poll>().unwrap_err().contains("'select'"));
    }
}
