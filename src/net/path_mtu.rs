//! How large packets to each peer may be: what was configured, what routers have told.

use core::net::IpAddr;

use super::ipv6;
use crate::time::Nanos;

/// No IPv4 peer is believed to need smaller packets (the limit of Linux): who forges an ICMP error
/// cannot make us send crumbs.
const IPV4_FLOOR_BYTES: u16 = 552;

/// The smallest MTU that a way to `ip` is believed to have.
pub(super) const fn floor_bytes(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(_) => IPV4_FLOOR_BYTES,
        IpAddr::V6(_) => ipv6::MTU_MIN_BYTES,
    }
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    ip: IpAddr,
    mtu_bytes: u16,
    until: Nanos,
}

/// The MTU of the link, and the peers that have a smaller one.
#[derive(Debug)]
pub(super) struct PathMtus {
    link_bytes: u16,
    configured: Vec<(IpAddr, u16)>,
    learned: Vec<Learned>,
    learned_max: usize,
    keep_ns: u64,
}

impl PathMtus {
    /// Takes all memory it will ever use.
    pub(super) fn new(
        link_bytes: u16,
        configured: Vec<(IpAddr, u16)>,
        learned_max: usize,
        keep_ns: u64,
    ) -> Self {
        let learned = Vec::with_capacity(learned_max);
        Self { link_bytes, configured, learned, learned_max, keep_ns }
    }

    /// Bytes of the largest IP packet that the link takes.
    pub(super) const fn link_bytes(&self) -> u16 {
        self.link_bytes
    }

    /// Bytes of the largest IP packet that gets to `ip`.
    pub(super) fn mtu_bytes(&self, ip: IpAddr) -> u16 {
        let configured = self.configured.iter().find(|&&(peer, _)| peer == ip);
        let learned = self.learned.iter().find(|learned| learned.ip == ip);
        let known = [configured.map(|&(_, bytes)| bytes), learned.map(|it| it.mtu_bytes)];
        known.into_iter().flatten().fold(self.link_bytes, u16::min)
    }

    /// Takes note that only packets of `mtu_bytes` get to `ip`; says whether that is less than was
    /// known. When there is no room the oldest news gives way.
    pub(super) fn learn(&mut self, now: Nanos, ip: IpAddr, mtu_bytes: u16) -> bool {
        let mtu_bytes = mtu_bytes.max(floor_bytes(ip));
        let before = self.mtu_bytes(ip);
        if mtu_bytes >= before || self.learned_max == 0 {
            return false;
        }
        self.learned.retain(|learned| learned.ip != ip);
        if self.learned.len() == self.learned_max {
            self.learned.remove(0);
        }
        self.learned.push(Learned { ip, mtu_bytes, until: now + Nanos(self.keep_ns) });
        true
    }

    /// When [`Self::on_timer`] has something to do, [`Nanos::MAX`] for never.
    pub(super) fn deadline(&self) -> Nanos {
        self.learned.first().map_or(Nanos::MAX, |oldest| oldest.until)
    }

    /// Forgets what is too old to be believed; says whether that was anything.
    pub(super) fn on_timer(&mut self, now: Nanos) -> bool {
        let before = self.learned.len();
        self.learned.retain(|learned| learned.until > now);
        self.learned.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos::from_secs(7);
    const KEEP: Nanos = Nanos::from_secs(600);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn mtus() -> PathMtus {
        PathMtus::new(9000, vec![(ip(9), 1500)], 2, KEEP.0)
    }

    #[test]
    fn the_smallest_of_all_that_is_known_counts() {
        let mut mtus = mtus();
        assert_eq!((mtus.mtu_bytes(ip(1)), mtus.mtu_bytes(ip(9))), (9000, 1500));
        assert!(mtus.learn(NOW, ip(1), 4000) && mtus.learn(NOW, ip(9), 1400));
        assert!(!mtus.learn(NOW, ip(1), 4000) && !mtus.learn(NOW, ip(1), 5000));
        assert_eq!((mtus.mtu_bytes(ip(1)), mtus.mtu_bytes(ip(9))), (4000, 1400));
        assert_eq!(mtus.mtu_bytes(ip(2)), 9000);
    }

    #[test]
    fn nobody_makes_us_send_crumbs() {
        let mut mtus = mtus();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        assert!(mtus.learn(NOW, ip(1), 68) && mtus.learn(NOW, v6, 68));
        assert_eq!((mtus.mtu_bytes(ip(1)), mtus.mtu_bytes(v6)), (552, 1280));
    }

    #[test]
    fn news_is_forgotten_after_its_time_and_for_want_of_room() {
        let mut mtus = mtus();
        assert_eq!(mtus.deadline(), Nanos::MAX);
        for last in 1..=3 {
            mtus.learn(NOW + Nanos::from_secs(last.into()), ip(last), 1000);
        }
        assert_eq!([1, 2, 3].map(|last| mtus.mtu_bytes(ip(last))), [9000, 1000, 1000]);
        let due = NOW + Nanos::from_secs(2) + KEEP;
        assert_eq!(mtus.deadline(), due);
        assert!(!mtus.on_timer(due - Nanos(1)));
        assert!(mtus.on_timer(due));
        assert_eq!([1, 2, 3].map(|last| mtus.mtu_bytes(ip(last))), [9000, 9000, 1000]);
        let mut none = PathMtus::new(1500, vec![], 0, KEEP.0);
        assert!(!none.learn(NOW, ip(1), 1000));
    }
}
