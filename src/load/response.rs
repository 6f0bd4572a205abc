//! How long responses are, and how long a server takes for them.
//!
//! Messages carry nothing but payload. So how a response is to be does not stand in the request: each
//! kind of response has a server port of its own, and what is drawn from a distribution is a function
//! of the RPC's id, which both ends know. Server and client must be given the same distribution.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use super::quantity::parse_duration;
use super::workload::{MESSAGE_BYTES_MAX, Workload};
use crate::time::Nanos;
use crate::wire::HomaPort;

/// Bytes of a short response.
pub const SHORT_RESPONSE_BYTES: u32 = 100;

/// Ports of one group: one for each kind of response. A server with several groups has them one after
/// the other.
pub const PORTS_PER_GROUP: u16 = 3;

/// What the server answers with.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ResponseKind {
    /// As many bytes as the request has.
    #[default]
    Echo,
    /// [`SHORT_RESPONSE_BYTES`] bytes.
    Short,
    /// As many bytes as this distribution gives, whatever the request. One size is one, too.
    Drawn(Arc<Workload>),
}

impl ResponseKind {
    /// The server's port for this kind in the group of ports that begins with `base`.
    pub const fn port(&self, base: HomaPort) -> HomaPort {
        let place = match self {
            Self::Echo => 0,
            Self::Short => 1,
            Self::Drawn(_) => 2,
        };
        HomaPort(base.0.wrapping_add(place))
    }

    /// Length of the response of RPC `rpc_id`, whose request has `request_bytes`. Both ends must name
    /// the RPC by the same number.
    pub fn bytes(&self, rpc_id: u64, request_bytes: u32) -> u32 {
        match self {
            Self::Echo => request_bytes,
            Self::Short => SHORT_RESPONSE_BYTES,
            Self::Drawn(sizes) => sizes.size_at(unit_of(rpc_id ^ SIZE_SALT)),
        }
    }

    /// The mean over all responses to requests of `workload` of what `f` says of the length of one.
    pub fn mean_of(&self, workload: &Workload, f: impl Fn(u32) -> f64) -> f64 {
        match self {
            Self::Echo => workload.mean_of(f),
            Self::Short => f(SHORT_RESPONSE_BYTES),
            Self::Drawn(sizes) => sizes.mean_of(f),
        }
    }
}

impl FromStr for ResponseKind {
    type Err = String;

    /// Reads `echo`, `short`, or what a [`Workload`] is read from; longer draws than a message may have
    /// are cut.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "echo" => Ok(Self::Echo),
            "short" => Ok(Self::Short),
            _ => {
                let sizes = text.parse::<Workload>().and_then(|w| w.cut_at(MESSAGE_BYTES_MAX));
                sizes.map(|sizes| Self::Drawn(Arc::new(sizes))).map_err(|error| {
                    format!("response '{text}': neither echo nor short, and not sizes: {error}")
                })
            }
        }
    }
}

impl fmt::Display for ResponseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::Short => f.write_str("short"),
            Self::Drawn(sizes) => sizes.fmt(f),
        }
    }
}

/// How long a server waits before it answers, as if it had to work. Any number of requests wait at the
/// same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceTime {
    /// Not at all.
    #[default]
    None,
    /// Equally long for all.
    Constant(Nanos),
    /// Exponentially distributed with this mean.
    Exponential(Nanos),
}

impl ServiceTime {
    /// That of RPC `rpc_id`.
    pub fn of(self, rpc_id: u64) -> Nanos {
        match self {
            Self::None => Nanos::ZERO,
            Self::Constant(time) => time,
            Self::Exponential(mean) => {
                let wait = -libm::log(1.0 - unit_of(rpc_id ^ TIME_SALT));
                Nanos((mean.0 as f64 * wait) as u64)
            }
        }
    }

    /// The mean.
    pub const fn mean(self) -> Nanos {
        match self {
            Self::None => Nanos::ZERO,
            Self::Constant(time) | Self::Exponential(time) => time,
        }
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    /// Reads a duration such as `10us`, or `exp:10us`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (is_exponential, time) =
            text.strip_prefix("exp:").map_or((false, text), |time| (true, time));
        let time = parse_duration(time).map_err(|error| format!("service time {error}"))?;
        Ok(match (time, is_exponential) {
            (Nanos::ZERO, _) => Self::None,
            (mean, true) => Self::Exponential(mean),
            (time, false) => Self::Constant(time),
        })
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |time: &Nanos| time.0 as f64 / 1e3;
        match self {
            Self::None => f.write_str("none"),
            Self::Constant(time) => write!(f, "{} us", us(time)),
            Self::Exponential(mean) => write!(f, "exponential, mean {} us", us(mean)),
        }
    }
}

/// Sizes and times of one RPC have nothing to do with each other.
const SIZE_SALT: u64 = 0x5851_F42D_4C95_7F2D;
const TIME_SALT: u64 = 0xD1B5_4A32_D192_ED03;

/// A number in [0,1) that depends on every bit of `key`: the finish of SplitMix64.
fn unit_of(key: u64) -> f64 {
    let mut x = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> ResponseKind {
        text.parse().unwrap()
    }

    #[test]
    fn kinds_are_read_and_have_ports() {
        for (text, kind, place) in [
            ("echo", ResponseKind::Echo, 0),
            ("short", ResponseKind::Short, 1),
            ("w3", drawn("w3"), 2),
            ("fixed:4000", drawn("4KB"), 2),
        ] {
            assert_eq!(text.parse(), Ok(kind.clone()));
            assert_eq!(kind.port(HomaPort(4000)), HomaPort(4000 + place));
        }
        assert_eq!(drawn("4KB").to_string(), "fixed:4000");
        assert_eq!(drawn("w3").to_string(), "w3 cut at 1,000,000 B");
        let error = "loud".parse::<ResponseKind>().unwrap_err();
        assert!(error.starts_with("response 'loud': neither echo nor short, and not sizes: "));
    }

    #[test]
    fn neighbouring_ids_draw_the_whole_distribution() {
        let kind = drawn("w3");
        let ResponseKind::Drawn(sizes) = &kind else { unreachable!() };
        let n = 200_000_u64;
        let bytes = |i: u64| kind.bytes(1 << 40 | i << 1, 7);
        for quantile in [0.1, 0.5, 0.9] {
            let size = sizes.quantile(quantile);
            let below = (0..n).filter(|&i| bytes(i) <= size).count() as f64 / n as f64;
            let share = sizes.share_at_most(size);
            assert!((below - share).abs() < 0.004, "{below} of {share} are at most {size} B");
        }
        assert_eq!(kind.bytes(99, 1), kind.bytes(99, 1_000_000));
        assert_eq!(drawn("4KB").bytes(3, 1), 4_000);
        assert_eq!(ResponseKind::Echo.bytes(3, 17), 17);
        assert_eq!(ResponseKind::Short.bytes(3, 17), 100);
    }

    #[test]
    fn means_are_those_of_what_is_sent() {
        let workload = Workload::from_csv("t", "100,0.5\n300,1").unwrap();
        let mean = |kind: ResponseKind| kind.mean_of(&workload, f64::from);
        assert_eq!(mean(ResponseKind::Echo), 200.0);
        assert_eq!(mean(ResponseKind::Short), 100.0);
        assert_eq!(mean(drawn("50")), 50.0);
    }

    #[test]
    fn service_times() {
        let ten = Nanos::from_us(10);
        assert_eq!("10us".parse(), Ok(ServiceTime::Constant(ten)));
        assert_eq!("exp:10us".parse(), Ok(ServiceTime::Exponential(ten)));
        assert_eq!("0us".parse(), Ok(ServiceTime::None));
        assert!("exp:10".parse::<ServiceTime>().unwrap_err().contains("has no unit"));
        assert_eq!(ServiceTime::Constant(ten).of(5), ten);
        assert_eq!((ServiceTime::None.of(5), ServiceTime::None.mean()), (Nanos::ZERO, Nanos::ZERO));
        let n = 100_000_u64;
        let times: Vec<f64> =
            (0..n).map(|id| ServiceTime::Exponential(ten).of(id << 1).0 as f64).collect();
        let mean = times.iter().sum::<f64>() / n as f64;
        let long = times.iter().filter(|&&time| time > 30e3).count() as f64 / n as f64;
        assert!((mean / 10e3 - 1.0).abs() < 0.02, "{mean}");
        assert!((long / (-3.0_f64).exp() - 1.0).abs() < 0.05, "{long}");
    }

    #[test]
    fn size_and_time_are_independent() {
        let kind = ResponseKind::Drawn(Arc::new(Workload::from_csv("t", "1,0.5\n2,1").unwrap()));
        let n = 50_000_u64;
        let both = (0..n)
            .filter(|&id| {
                let time = ServiceTime::Exponential(Nanos(1_000_000)).of(id);
                kind.bytes(id, 1) == 2 && time.0 > 693_147
            })
            .count() as f64;
        assert!((both / n as f64 - 0.25).abs() < 0.01, "{both}");
    }
}
