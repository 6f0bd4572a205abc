//! What is said about other hosts, less and less often: a message for every packet of theirs would
//! flood the log, and anybody can send such packets.

use std::fmt;
use std::net::IpAddr;

/// Hosts that are counted one by one; those beyond are counted together.
const HOSTS_MAX: usize = 64;

/// What is wrong with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// It does not answer questions for its hardware address.
    NoAnswer,
    /// It knows no Homa.
    NotHoma,
}

/// How often each complaint was made about each host.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    by_host: Vec<(About, IpAddr, u64)>,
    others: u64,
}

/// The number of a complaint that is to be made: empty for the first, else with a space in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times(u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(f, " ({} times so far)", self.0) } else { Ok(()) }
    }
}

impl Complaints {
    /// Counts a complaint. It is to be made the first time, the second, the fourth, and so on.
    #[cold]
    pub(super) fn count(&mut self, about: About, host: IpAddr) -> Option<Times> {
        let known = self.by_host.iter().position(|entry| (entry.0, entry.1) == (about, host));
        let at = known.unwrap_or(self.by_host.len());
        if known.is_none() && at < HOSTS_MAX {
            self.by_host.push((about, host, 0));
        }
        let count = self.by_host.get_mut(at).map_or(&mut self.others, |entry| &mut entry.2);
        *count += 1;
        count.is_power_of_two().then_some(Times(*count))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn a_complaint_is_made_at_powers_of_two() {
        let mut complaints = Complaints::default();
        let made: Vec<_> =
            (0..1_000).filter_map(|_| complaints.count(About::NotHoma, host(1))).collect();
        let counts: Vec<u64> = made.iter().map(|times| times.0).collect();
        assert_eq!(counts, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        let texts = [made[0].to_string(), made[3].to_string()];
        assert_eq!(texts, ["", " (8 times so far)"]);
    }

    #[test]
    fn each_is_made_about_each_host() {
        let mut complaints = Complaints::default();
        for about in [About::NotHoma, About::NoAnswer] {
            for n in 0..20 {
                assert_eq!(complaints.count(about, host(n)), Some(Times(1)));
            }
        }
    }

    #[test]
    fn any_number_of_hosts_is_little_memory_and_few_messages() {
        let mut complaints = Complaints::default();
        let made =
            (0..100_000).filter(|&n| complaints.count(About::NotHoma, host(n)).is_some()).count();
        assert_eq!(made, HOSTS_MAX + 17, "of the others: 1, 2, 4 .. 65536");
        assert_eq!(complaints.by_host.len(), HOSTS_MAX);
    }
}
