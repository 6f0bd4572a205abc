//! What is measured, what it should be, and what others reach.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::sampler::Sampled;
use crate::load::windows::Better;

/// Bytes of short requests and of all responses.
pub const SHORT_BYTES: u32 = 100;
/// Bytes of the frame of a short message: Ethernet, IPv4 and Homa DATA header (protocol.md section 2)
/// before [`SHORT_BYTES`].
pub const SHORT_FRAME_BYTES: u16 = 14 + 20 + 56 + SHORT_BYTES as u16;
/// Bytes of the frames sent one way, the baseline of large messages.
pub const LARGE_FRAME_BYTES: u16 = 1_500;

/// Near and far ratio of a system to its raw baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Which system.
    pub name: &'static str,
    /// Ratio of the near windows.
    pub near: f64,
    /// Ratio of the far windows.
    pub far: f64,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} / {}", self.name, times(self.near), times(self.far))
    }
}

/// A ratio: `1.90x`.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Round trip of 100 B there and 100 B back with one RPC outstanding, in ns; raw is the round trip
    /// of one frame of that size.
    Rtt,
    /// Thousand RPCs of 100 B and 100 B per second with 8 outstanding; raw is the echo of frames of
    /// that size, 8 outstanding.
    Rate8,
    /// The same with 32 outstanding.
    Rate32,
    /// Payload of requests of 32 KB in Gbps, 8 outstanding; raw is 1500-byte frames one way.
    Large32k,
    /// Payload of requests of 1 MB in Gbps, 2 outstanding; raw is 1500-byte frames one way.
    Large1m,
}

impl Metric {
    /// All, in the order of reports.
    pub const ALL: [Self; 5] =
        [Self::Rtt, Self::Rate8, Self::Rate32, Self::Large32k, Self::Large1m];

    /// Its name on command lines and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::Rate8 => "rate8",
            Self::Rate32 => "rate32",
            Self::Large32k => "large32k",
            Self::Large1m => "large1m",
        }
    }

    /// Its name in reports.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Rtt => "round trip of 100 B and 100 B, ns",
            Self::Rate8 => "RPCs of 100 B and 100 B, 8 outstanding, thousand/s",
            Self::Rate32 => "RPCs of 100 B and 100 B, 32 outstanding, thousand/s",
            Self::Large32k => "requests of 32 KB, 8 outstanding, Gbps",
            Self::Large1m => "requests of 1 MB, 2 outstanding, Gbps",
        }
    }

    /// RPCs, or frames that are echoed, under way at all times.
    pub const fn outstanding(self) -> u32 {
        match self {
            Self::Rtt => 1,
            Self::Rate8 | Self::Large32k => 8,
            Self::Rate32 => 32,
            Self::Large1m => 2,
        }
    }

    /// Bytes of a request.
    pub const fn request_bytes(self) -> u32 {
        match self {
            Self::Rtt | Self::Rate8 | Self::Rate32 => SHORT_BYTES,
            Self::Large32k => 32_000,
            Self::Large1m => 1_000_000,
        }
    }

    /// Whether bytes count, and frames of the baseline go one way.
    pub const fn is_large(self) -> bool {
        matches!(self, Self::Large32k | Self::Large1m)
    }

    /// Which end is good.
    pub const fn better(self) -> Better {
        match self {
            Self::Rtt => Better::Lower,
            Self::Rate8 | Self::Rate32 | Self::Large32k | Self::Large1m => Better::Higher,
        }
    }

    /// What a window says of this metric when each completion is one of `item_bytes` bytes: ns,
    /// thousand per second, or Gbps.
    pub fn value(self, window: Sampled, item_bytes: u32) -> f64 {
        let Sampled(k_per_s, median_ns) = window;
        match self {
            Self::Rtt => median_ns,
            Self::Rate8 | Self::Rate32 => k_per_s,
            Self::Large32k | Self::Large1m => k_per_s * 1e3 * f64::from(item_bytes) * 8.0 / 1e9,
        }
    }

    /// The ratio to raw that this project wants to reach.
    pub const fn goal(self) -> Known {
        let (near, far) = match self {
            Self::Rtt => (1.5, 1.1),
            Self::Rate8 | Self::Rate32 => (0.75, 0.85),
            Self::Large32k | Self::Large1m => (0.6, 0.9),
        };
        Known { name: "goal", near, far }
    }

    /// Other systems over memif on one machine, one thread a side, as ratios to raw memif in the same
    /// minutes; the first is the best. Source: measuring.md sections 1, 4 and 5. Round trip: section 5,
    /// raw 0.51 us near and 2.03 us far. RPCs: section 4, raw 4200 and 1540 thousand per second with 8
    /// outstanding, 5050 and 1900 with 32. Large messages: section 4, of raw 121 and 23 Gbps.
    pub const fn known(self) -> &'static [Known] {
        match self {
            Self::Rtt => &[
                Known { name: "eRPC without congestion control", near: 1.9, far: 1.15 },
                Known { name: "eRPC", near: 2.8, far: 1.46 },
                Known { name: "Homa in C++ (PlatformLab)", near: 4.4, far: 2.2 },
            ],
            Self::Rate8 => &[
                Known { name: "eRPC without congestion control", near: 0.35, far: 0.51 },
                Known { name: "Homa in C++ (PlatformLab)", near: 0.15, far: 0.23 },
            ],
            Self::Rate32 => &[
                Known { name: "eRPC", near: 0.53, far: 0.67 },
                Known { name: "eRPC without congestion control", near: 0.37, far: 0.49 },
                Known { name: "Homa in C++ (PlatformLab)", near: 0.14, far: 0.18 },
            ],
            Self::Large32k => &[Known { name: "Homa in C++ (PlatformLab)", near: 0.21, far: 0.43 }],
            // Others do best with 32 KB; the figure of 1 MB x 2, 9.7 Gbps, had no near and far part.
            Self::Large1m => &[
                Known { name: "Homa in C++ (PlatformLab) with 32 KB x 8", near: 0.21, far: 0.43 },
                Known { name: "the same with 1 MB x 2", near: 0.08, far: 0.42 },
            ],
        }
    }

    /// Whether `ratio` is at least as good as `bar`.
    pub(super) fn meets(self, ratio: f64, bar: f64) -> bool {
        match self.better() {
            Better::Lower => ratio <= bar,
            Better::Higher => ratio >= bar,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown figure '{name}': use some of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_are_those_of_json() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{metric}\""));
        }
        let text = "rtt2".parse::<Metric>().unwrap_err();
        assert!(text.contains("'rtt2'") && text.contains("rate32, large32k"), "{text}");
    }

    #[test]
    fn windows_become_figures() {
        let window = Sampled(2_000.0, 480.0);
        assert_eq!(Metric::Rtt.value(window, 190), 480.0);
        assert_eq!(Metric::Rate32.value(window, 190), 2_000.0);
        // Two million frames of 1500 bytes.
        assert_eq!(Metric::Large1m.value(window, 1_500), 24.0);
    }

    #[test]
    fn the_goal_is_beyond_the_best_and_the_best_comes_first() {
        for metric in Metric::ALL {
            let [best, rest @ ..] = metric.known() else { panic!("{metric}: nobody known") };
            let goal = metric.goal();
            assert!(metric.meets(goal.near, best.near) && metric.meets(goal.far, best.far));
            for other in rest {
                assert!(metric.meets(best.near, other.near) && metric.meets(best.far, other.far));
            }
        }
        assert!(Metric::Rtt.meets(1.5, 1.5) && !Metric::Rate8.meets(0.74, 0.75));
    }
}
