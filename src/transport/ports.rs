//! The Homa ports that are open on this shard.

use crate::wire::HomaPort;

const WORDS: usize = (u16::MAX as usize + 1) / 64;

/// Two bits per port: open, and open for requests from peers.
#[derive(Debug)]
pub(super) struct Ports {
    open: Box<[u64; WORDS]>,
    serving: Box<[u64; WORDS]>,
    next_client: u16,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            open: Box::new([0; WORDS]),
            serving: Box::new([0; WORDS]),
            next_client: HomaPort::FIRST_CLIENT.0,
        }
    }

    fn bit(bits: &[u64; WORDS], port: HomaPort) -> bool {
        bits[usize::from(port.0 / 64)] >> (port.0 % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn is_open(&self, port: HomaPort) -> bool {
        Self::bit(&self.open, port)
    }

    #[inline]
    pub(super) fn is_serving(&self, port: HomaPort) -> bool {
        Self::bit(&self.serving, port)
    }

    /// Opens `port`; says false if it is open already or 0.
    pub(super) fn open(&mut self, port: HomaPort, serve: bool) -> bool {
        if port.0 == 0 || self.is_open(port) {
            return false;
        }
        let mask = 1 << (port.0 % 64);
        self.open[usize::from(port.0 / 64)] |= mask;
        if serve {
            self.serving[usize::from(port.0 / 64)] |= mask;
        }
        true
    }

    /// Opens the next free port at or above 32768 for calls.
    pub(super) fn open_any(&mut self) -> Option<HomaPort> {
        for _ in HomaPort::FIRST_CLIENT.0..=u16::MAX {
            let port = HomaPort(self.next_client);
            self.next_client = match self.next_client {
                u16::MAX => HomaPort::FIRST_CLIENT.0,
                port => port + 1,
            };
            if self.open(port, false) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn close(&mut self, port: HomaPort) -> bool {
        let was_open = self.is_open(port);
        let mask = !(1 << (port.0 % 64));
        self.open[usize::from(port.0 / 64)] &= mask;
        self.serving[usize::from(port.0 / 64)] &= mask;
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_closes_and_finds_free_ones() {
        let mut ports = Ports::new();
        assert!(!ports.open(HomaPort(0), true), "port 0 is reserved");
        assert!(ports.open(HomaPort(80), true));
        assert!(!ports.open(HomaPort(80), true));
        assert!(ports.is_serving(HomaPort(80)));
        assert_eq!(ports.open_any(), Some(HomaPort(0x8000)));
        assert_eq!(ports.open_any(), Some(HomaPort(0x8001)));
        assert!(!ports.is_serving(HomaPort(0x8001)));
        assert!(ports.close(HomaPort(80)));
        assert!(!ports.is_open(HomaPort(80)));
        assert!(!ports.close(HomaPort(80)));
    }
}
