//! Who sends to whom in a cluster.

use std::fmt;
use std::str::FromStr;

/// Which hosts send to which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Every host to every other.
    #[default]
    AllToAll,
    /// Hosts 1 to `senders` to host 0; the others to nobody.
    Incast {
        /// How many send; all others if absent.
        senders: Option<u32>,
    },
    /// Host 0 to hosts 1 to `receivers`.
    Outcast {
        /// To how many; all others if absent.
        receivers: Option<u32>,
    },
    /// Every host to the next one, the last to the first.
    Permutation,
}

impl Pattern {
    /// The hosts that `host` of `hosts` sends to, from 0.
    pub fn destinations(self, host: u32, hosts: u32) -> Vec<u32> {
        let others = hosts.saturating_sub(1);
        let is_one_of =
            |count: Option<u32>| (1..=count.unwrap_or(others).min(others)).contains(&host);
        match self {
            Self::AllToAll => (0..hosts).filter(|&other| other != host).collect(),
            Self::Incast { senders } if is_one_of(senders) => vec![0],
            Self::Outcast { receivers } if host == 0 => {
                (1..=receivers.unwrap_or(others).min(others)).collect()
            }
            Self::Permutation if hosts > 1 => vec![(host + 1) % hosts],
            _ => Vec::new(),
        }
    }

    /// The fewest hosts that it can be run on.
    pub const fn hosts_min(self) -> u32 {
        match self {
            Self::Incast { senders: Some(peers) } | Self::Outcast { receivers: Some(peers) } => {
                peers.saturating_add(1)
            }
            _ => 2,
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "unknown pattern '{text}': use all-to-all, incast, incast:N, outcast, outcast:N or \
                 permutation"
            )
        };
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => {
                let count = count.parse().ok().filter(|&count: &u32| count > 0);
                (name, Some(count.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        match (name, count) {
            ("all-to-all", None) => Ok(Self::AllToAll),
            ("incast", senders) => Ok(Self::Incast { senders }),
            ("outcast", receivers) => Ok(Self::Outcast { receivers }),
            ("permutation", None) => Ok(Self::Permutation),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllToAll => f.write_str("all-to-all"),
            Self::Incast { senders: None } => f.write_str("incast"),
            Self::Incast { senders: Some(senders) } => write!(f, "incast:{senders}"),
            Self::Outcast { receivers: None } => f.write_str("outcast"),
            Self::Outcast { receivers: Some(receivers) } => write!(f, "outcast:{receivers}"),
            Self::Permutation => f.write_str("permutation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, hosts: u32) -> Vec<Vec<u32>> {
        let pattern: Pattern = pattern.parse().unwrap();
        (0..hosts).map(|host| pattern.destinations(host, hosts)).collect()
    }

    #[test]
    fn who_sends_to_whom() {
        assert_eq!(of("all-to-all", 3), [vec![1, 2], vec![0, 2], vec![0, 1]]);
        assert_eq!(of("incast", 3), [vec![], vec![0], vec![0]]);
        assert_eq!(of("incast:2", 4), [vec![], vec![0], vec![0], vec![]]);
        assert_eq!(of("outcast", 3), [vec![1, 2], vec![], vec![]]);
        assert_eq!(of("outcast:1", 3), [vec![1], vec![], vec![]]);
        assert_eq!(of("permutation", 3), [vec![1], vec![2], vec![0]]);
        assert_eq!(of("permutation", 1), [Vec::<u32>::new()]);
    }

    #[test]
    fn names_are_read_as_they_are_shown() {
        for name in ["all-to-all", "incast", "incast:3", "outcast", "outcast:2", "permutation"] {
            assert_eq!(name.parse::<Pattern>().unwrap().to_string(), name);
        }
        for wrong in ["", "incast:0", "incast:x", "all-to-all:2", "ring"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
        assert_eq!("incast:3".parse::<Pattern>().unwrap().hosts_min(), 4);
        assert_eq!(Pattern::AllToAll.hosts_min(), 2);
    }
}
