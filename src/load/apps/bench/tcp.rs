//! Round trips over the kernel's TCP, both sides spinning on sockets that do not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{Idling, Measured, Timing, is_set};
use crate::load::bench::SHORT_BYTES;
use crate::node::IdlePolicy;
use crate::time::Nanos;

type Message = [u8; SHORT_BYTES as usize];

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Well.
    Done,
    /// The peer closed the connection, or we were told to stop.
    Over,
}

/// A connection without delays.
#[derive(Debug)]
pub struct TcpPeer<'a> {
    stream: TcpStream,
    idling: Idling,
    stop: &'a AtomicBool,
}

impl<'a> TcpPeer<'a> {
    /// Connects to `server`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(server: SocketAddr, idle: IdlePolicy, stop: &'a AtomicBool) -> io::Result<Self> {
        Self::new(TcpStream::connect(server)?, idle, stop)
    }

    /// Waits for one connection; `None` when told to stop.
    ///
    /// # Errors
    /// Those of the system.
    pub fn accept(
        listener: &TcpListener,
        idle: IdlePolicy,
        stop: &'a AtomicBool,
    ) -> io::Result<Option<Self>> {
        listener.set_nonblocking(true)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Self::new(stream, idle, stop).map(Some),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Err(_) if is_set(stop) => return Ok(None),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }

    fn new(stream: TcpStream, idle: IdlePolicy, stop: &'a AtomicBool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, idling: Idling::new(idle), stop })
    }

    /// Repeats `attempt` until `length` bytes went through.
    fn all(
        &mut self,
        length: usize,
        mut attempt: impl FnMut(&mut TcpStream, usize) -> io::Result<usize>,
    ) -> io::Result<Ended> {
        let mut done = 0;
        while done < length {
            match attempt(&mut self.stream, done) {
                Ok(0) => return Ok(Ended::Over),
                Ok(n) => done += n,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock if self.idling.turn() && is_set(self.stop) => {
                        return Ok(Ended::Over);
                    }
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Ok(Ended::Over),
                    _ => return Err(error),
                },
            }
        }
        Ok(Ended::Done)
    }

    fn send(&mut self, message: &Message) -> io::Result<Ended> {
        self.all(message.len(), |stream, at| stream.write(&message[at..]))
    }

    fn receive(&mut self, message: &mut Message) -> io::Result<Ended> {
        self.all(message.len(), |stream, at| stream.read(&mut message[at..]))
    }
}

/// Sends every message back until the peer closes the connection; returns how many.
///
/// # Errors
/// Those of the system.
pub fn tcp_echo(mut peer: TcpPeer<'_>) -> io::Result<u64> {
    let mut message = [0; SHORT_BYTES as usize];
    for echoed in 0.. {
        if peer.receive(&mut message)? == Ended::Over || peer.send(&message)? == Ended::Over {
            return Ok(echoed);
        }
    }
    Ok(u64::MAX)
}

/// One message of [`SHORT_BYTES`] there and back at a time.
///
/// # Errors
/// Those of the system.
pub fn tcp_ping_pong(mut peer: TcpPeer<'_>, timing: Timing) -> io::Result<Measured> {
    let mut sampler = timing.sampler();
    let mut message = [b't'; SHORT_BYTES as usize];
    let origin = Instant::now();
    let mut last = Nanos::ZERO;
    while !sampler.is_finished(last) {
        if peer.send(&message)? == Ended::Over || peer.receive(&mut message)? == Ended::Over {
            return Ok(Measured { windows: sampler.into_windows(), failed: 1 });
        }
        let now = Nanos(origin.elapsed().as_nanos() as u64);
        sampler.record(now, now.since(last));
        last = now;
    }
    Ok(Measured { windows: sampler.into_windows(), failed: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_over_loopback_are_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        let timing = Timing {
            warm_up: Nanos::from_ms(5),
            duration: Nanos::from_ms(50),
            idle: IdlePolicy::Yield,
        };
        let (measured, echoed) = std::thread::scope(|scope| {
            let echo = scope.spawn(|| {
                let peer = TcpPeer::accept(&listener, timing.idle, &stop).unwrap().unwrap();
                tcp_echo(peer).unwrap()
            });
            let client = TcpPeer::connect(server, timing.idle, &stop).unwrap();
            (tcp_ping_pong(client, timing).unwrap(), echo.join().unwrap())
        });
        assert_eq!(measured.failed, 0);
        assert!((1..=11).contains(&measured.windows.len()), "{measured:?}");
        let completed: f64 = measured.windows.iter().map(|window| window.0 * 5.0).sum();
        assert!(echoed as f64 >= completed.floor(), "{echoed} echoed, {completed} completed");
        assert!(measured.windows.iter().all(|window| window.1 > 1_000.0), "{measured:?}");
    }

    #[test]
    fn a_server_without_client_stops_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stop = AtomicBool::new(true);
        assert!(TcpPeer::accept(&listener, IdlePolicy::Yield, &stop).unwrap().is_none());
    }
}
