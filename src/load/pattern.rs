//! Which hosts send to which.
//!
//! Every host of a run can tell by itself: [`TrafficPattern::destinations`] is a function of the
//! pattern, the number of the host and how many there are.

use core::fmt;
use core::str::FromStr;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Who sends to whom among hosts numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPattern {
    /// Every host to all others.
    #[default]
    AllToAll,
    /// This many hosts, from number 1 on, to host 0; `None` for all others.
    Incast(Option<u32>),
    /// Host 0 to this many hosts, from number 1 on; `None` for all others.
    Outcast(Option<u32>),
    /// Every host to one other, and each from one other, as drawn from the seed.
    Permutation(u64),
}

/// Why a pattern does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// There is no host of this number.
    Rank {
        /// The number.
        rank: u32,
        /// How many hosts there are.
        hosts: u32,
    },
    /// Fewer hosts than the pattern needs.
    Hosts {
        /// How many there are.
        hosts: u32,
        /// How many are needed.
        needed: u32,
    },
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank { rank, hosts } => {
                write!(
                    f,
                    "host {rank} of {hosts}: hosts are numbered from 0 to {}",
                    hosts.saturating_sub(1)
                )
            }
            Self::Hosts { hosts, needed } => {
                write!(f, "{hosts} hosts, and the pattern needs {needed}")
            }
        }
    }
}

impl std::error::Error for PatternError {}

impl TrafficPattern {
    /// The hosts that host `rank` of `hosts` sends to, in rising order; none if it only answers. It
    /// sends to each of them equally often.
    ///
    /// # Errors
    /// There is no such host, or there are too few for the pattern.
    pub fn destinations(self, rank: u32, hosts: u32) -> Result<Vec<u32>, PatternError> {
        let others = hosts.saturating_sub(1);
        let fan = |count: Option<u32>| count.unwrap_or(others).max(1);
        let needed = match self {
            Self::AllToAll | Self::Permutation(_) => 2,
            Self::Incast(count) | Self::Outcast(count) => fan(count).saturating_add(1),
        };
        if hosts < needed {
            return Err(PatternError::Hosts { hosts, needed });
        }
        if rank >= hosts {
            return Err(PatternError::Rank { rank, hosts });
        }
        Ok(match self {
            Self::AllToAll => (0..hosts).filter(|&host| host != rank).collect(),
            Self::Incast(count) if (1..=fan(count)).contains(&rank) => vec![0],
            Self::Outcast(count) if rank == 0 => (1..=fan(count)).collect(),
            Self::Incast(_) | Self::Outcast(_) => Vec::new(),
            Self::Permutation(seed) => vec![permutation(hosts, seed)[rank as usize]],
        })
    }

    /// The hosts that send to host `rank`, in rising order.
    ///
    /// # Errors
    /// As [`Self::destinations`].
    pub fn sources(self, rank: u32, hosts: u32) -> Result<Vec<u32>, PatternError> {
        self.destinations(rank, hosts)?;
        let mut sources = Vec::new();
        for host in 0..hosts {
            if self.destinations(host, hosts)?.contains(&rank) {
                sources.push(host);
            }
        }
        Ok(sources)
    }
}

/// One cycle through all hosts, by Sattolo's algorithm: nobody sends to itself.
fn permutation(hosts: u32, seed: u64) -> Vec<u32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut order: Vec<u32> = (0..hosts).collect();
    for last in (1..order.len()).rev() {
        // The high half of the product: uniform to within 2^-32.
        let other = ((u64::from(rng.next_u32()) * last as u64) >> 32) as usize;
        order.swap(last, other);
    }
    order
}

impl FromStr for TrafficPattern {
    type Err = String;

    /// Reads `all-to-all`, `incast`, `incast:N`, `outcast`, `outcast:N`, `permutation` or
    /// `permutation:SEED`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "unknown pattern '{text}': use all-to-all, incast:N (N hosts to the first), outcast:N \
                 (the first to N hosts) or permutation:SEED; without N it is all others"
            )
        };
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<u64>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let fan = || match number.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(count @ 1..)) => Ok(Some(count)),
            Some(_) => Err(wrong()),
        };
        match (name, number) {
            ("all-to-all", None) => Ok(Self::AllToAll),
            ("incast", _) => fan().map(Self::Incast),
            ("outcast", _) => fan().map(Self::Outcast),
            ("permutation", seed) => Ok(Self::Permutation(seed.unwrap_or(1))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for TrafficPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllToAll => f.write_str("all-to-all"),
            Self::Incast(None) => f.write_str("incast"),
            Self::Incast(Some(count)) => write!(f, "incast:{count}"),
            Self::Outcast(None) => f.write_str("outcast"),
            Self::Outcast(Some(count)) => write!(f, "outcast:{count}"),
            Self::Permutation(seed) => write!(f, "permutation:{seed}"),
        }
    }
}

/// The number of a host and how many there are, written `2/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub rank: u32,
    /// How many there are.
    pub hosts: u32,
}

impl FromStr for Rank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(rank, hosts)| {
            Some(Self { rank: rank.parse().ok()?, hosts: hosts.parse().ok()? })
        });
        match parsed {
            Some(rank) if rank.rank < rank.hosts => Ok(rank),
            _ => Err(format!("'{text}' is not the number of a host: the first of four is 0/4")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pattern: &str, hosts: u32) -> Vec<Vec<u32>> {
        let pattern: TrafficPattern = pattern.parse().unwrap();
        (0..hosts).map(|rank| pattern.destinations(rank, hosts).unwrap()).collect()
    }

    #[test]
    fn who_sends_to_whom() {
        assert_eq!(all("all-to-all", 3), [vec![1, 2], vec![0, 2], vec![0, 1]]);
        assert_eq!(all("incast", 4), [vec![], vec![0], vec![0], vec![0]]);
        assert_eq!(all("incast:2", 4), [vec![], vec![0], vec![0], vec![]]);
        assert_eq!(all("outcast:2", 4), [vec![1, 2], vec![], vec![], vec![]]);
        assert_eq!(all("outcast", 3), [vec![1, 2], vec![], vec![]]);
        let incast: TrafficPattern = "incast:3".parse().unwrap();
        assert_eq!(incast.sources(0, 4), Ok(vec![1, 2, 3]));
        assert_eq!(incast.sources(2, 4), Ok(vec![]));
        let all_to_all = TrafficPattern::AllToAll;
        assert_eq!(all_to_all.sources(1, 3), Ok(vec![0, 2]));
    }

    #[test]
    fn a_permutation_depends_on_its_seed_alone() {
        assert_eq!(all("permutation:3", 20), all("permutation:3", 20));
        assert_ne!(all("permutation:3", 20), all("permutation:4", 20));
    }

    #[test]
    fn too_few_hosts_and_wrong_numbers() {
        let error = |text: &str, rank, hosts| {
            text.parse::<TrafficPattern>()
                .unwrap()
                .destinations(rank, hosts)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error("incast:4", 0, 4), "4 hosts, and the pattern needs 5");
        assert_eq!(error("incast", 0, 1), "1 hosts, and the pattern needs 2");
        assert_eq!(error("all-to-all", 0, 1), "1 hosts, and the pattern needs 2");
        assert_eq!(error("all-to-all", 4, 4), "host 4 of 4: hosts are numbered from 0 to 3");
    }

    #[test]
    fn patterns_and_ranks_are_read() {
        for text in ["all-to-all", "incast", "incast:3", "outcast", "outcast:2", "permutation:7"] {
            assert_eq!(text.parse::<TrafficPattern>().unwrap().to_string(), text);
        }
        for text in ["", "incast:0", "incast:x", "all-to-all:2", "ring", "permutation:-1"] {
            let error = text.parse::<TrafficPattern>().unwrap_err();
            assert!(error.starts_with(&format!("unknown pattern '{text}': use ")), "{error}");
        }
        assert_eq!("2/4".parse(), Ok(Rank { rank: 2, hosts: 4 }));
        for text in ["4/4", "2", "-1/2", "a/b", "0/0"] {
            assert!(text.parse::<Rank>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn in_a_permutation_everyone_sends_and_receives_once(hosts in 2_u32..200, seed: u64) {
            let pattern = TrafficPattern::Permutation(seed);
            let mut received = vec![0; hosts as usize];
            for rank in 0..hosts {
                let to = pattern.destinations(rank, hosts).unwrap();
                prop_assert_eq!(to.len(), 1);
                prop_assert_ne!(to[0], rank);
                received[to[0] as usize] += 1;
            }
            prop_assert!(received.iter().all(|&count| count == 1));
        }
    }
}
