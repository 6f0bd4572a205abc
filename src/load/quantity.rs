//! Durations, sizes and rates as people write and read them: `5s`, `32KB`, `10Gbps`.

use core::fmt;
use core::str::FromStr;

use crate::time::Nanos;

/// Why a quantity could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    text: String,
    reason: &'static str,
    kind: Kind,
}

/// What was being read, which decides what a correct text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Duration,
    Size,
    Rate,
}

impl Kind {
    const fn example(self) -> &'static str {
        match self {
            Self::Duration => "write a duration as in 250us, 100ms, 5s or 2min",
            Self::Size => {
                "write a size as in 100, 100B, 32KB (32,000 bytes) or 64KiB (65,536 bytes)"
            }
            Self::Rate => {
                "write a rate as in 1000000, 250k, 1.5M (RPCs per second) or 10Gbps (payload)"
            }
        }
    }

    fn error(self, text: &str, reason: &'static str) -> QuantityError {
        QuantityError { text: text.to_owned(), reason, kind: self }
    }
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": {}; {}", self.text, self.reason, self.kind.example())
    }
}

impl std::error::Error for QuantityError {}

/// Splits `text` into its number and its unit (lower case, without blanks).
fn split(text: &str, kind: Kind) -> Result<(f64, String), QuantityError> {
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number = number.replace('_', "");
    if number.is_empty() {
        return Err(kind.error(text, "does not begin with a number"));
    }
    let value = number.parse::<f64>().map_err(|_| kind.error(text, "the number cannot be read"))?;
    Ok((value, unit.trim().to_lowercase()))
}

/// `value` times `factor` as a whole number.
fn whole(text: &str, kind: Kind, value: f64, factor: f64) -> Result<u64, QuantityError> {
    let product = (value * factor).round();
    // 2^63 is far above any sensible quantity and safely inside what a cast represents.
    if product >= 9.2e18 {
        return Err(kind.error(text, "is too large"));
    }
    Ok(product as u64)
}

/// Reads a duration: a number with one of the units ns, us, ms, s, min, h.
///
/// # Errors
/// No number, no unit or an unknown one, or more than 292 years.
///
/// ```
/// use homa::{load::quantity::parse_duration, time::Nanos};
/// assert_eq!(parse_duration("1.5ms"), Ok(Nanos::from_us(1500)));
/// ```
pub fn parse_duration(text: &str) -> Result<Nanos, QuantityError> {
    let (value, unit) = split(text, Kind::Duration)?;
    let factor = match unit.as_str() {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" | "sec" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        "" => return Err(Kind::Duration.error(text, "has no unit")),
        _ => return Err(Kind::Duration.error(text, "has an unknown unit")),
    };
    whole(text, Kind::Duration, value, factor).map(Nanos)
}

/// Reads a size in bytes: a number, alone or with one of B, KB, MB, GB (powers of 1000), KiB, MiB,
/// GiB (powers of 1024).
///
/// # Errors
/// No number, an unknown unit, or a number too large for 63 bits.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let (value, unit) = split(text, Kind::Size)?;
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(Kind::Size.error(text, "has an unknown unit")),
    };
    whole(text, Kind::Size, value, factor)
}

/// How fast an open loop sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// RPCs per second.
    Rps(f64),
    /// Payload bits per second of the requests; headers do not count.
    Bps(f64),
    /// Bits per second that the DATA packets of the requests take on the wire, with all headers, gaps
    /// and preambles.
    WireBps {
        /// The rate.
        bps: f64,
        /// What a request takes on the wire on average, see
        /// [`WireCost::mean_bytes`](super::wire_cost::WireCost::mean_bytes).
        request_mean_bytes: f64,
    },
}

impl Rate {
    /// RPCs per second when requests are `mean_bytes` long on average.
    pub fn rps(self, mean_bytes: f64) -> f64 {
        match self {
            Self::Rps(rps) => rps,
            Self::Bps(bps) => bps / (8.0 * mean_bytes),
            Self::WireBps { bps, request_mean_bytes } => bps / (8.0 * request_mean_bytes),
        }
    }

    /// This rate times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Rps(rps) => Self::Rps(rps * factor),
            Self::Bps(bps) => Self::Bps(bps * factor),
            Self::WireBps { bps, request_mean_bytes } => {
                Self::WireBps { bps: bps * factor, request_mean_bytes }
            }
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rps(rps) => write!(f, "{}RPC/s", show_scaled(*rps)),
            Self::Bps(bps) => write!(f, "{}bps of payload", show_scaled(*bps)),
            Self::WireBps { bps, .. } => write!(f, "{}bps on the wire", show_scaled(*bps)),
        }
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    /// A bare number, optionally with k, M or G and `/s`, counts RPCs per second; bps, kbps, Mbps,
    /// Gbps and Tbps count payload bits.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (value, unit) = split(text, Kind::Rate)?;
        if value <= 0.0 {
            return Err(Kind::Rate.error(text, "is not above zero"));
        }
        if let Some(prefix) = unit.strip_suffix("bps") {
            let factor =
                factor_of(prefix).ok_or_else(|| Kind::Rate.error(text, "has an unknown unit"))?;
            return Ok(Self::Bps(value * factor));
        }
        let prefix = unit.trim_end_matches("/s").trim_end_matches("rps").trim_end_matches("rpc");
        let factor = factor_of(prefix.trim())
            .ok_or_else(|| Kind::Rate.error(text, "has an unknown unit"))?;
        Ok(Self::Rps(value * factor))
    }
}

/// What a decimal prefix in lower case stands for.
fn factor_of(prefix: &str) -> Option<f64> {
    Some(match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return None,
    })
}

/// Three significant digits from 1 up, three decimals below: `0.052`, `5.23`, `52.3`, `523`.
pub fn show_digits(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A time in us, ms or s with three significant digits: `0.523 us`, `52.3 us`, `1.20 ms`.
pub fn show_ns(ns: f64) -> String {
    let (scaled, unit) = match ns {
        n if n < 999_500.0 => (n / 1e3, "us"),
        n if n < 999_500_000.0 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", show_digits(scaled))
}

/// A number with a decimal prefix, three significant digits and a blank before the prefix: `1.02 M`.
/// Meant to be followed by a unit.
pub fn show_scaled(value: f64) -> String {
    let (scaled, prefix) = match value {
        v if v < 999.5 => (v, ""),
        v if v < 999.5e3 => (v / 1e3, "k"),
        v if v < 999.5e6 => (v / 1e6, "M"),
        v if v < 999.5e9 => (v / 1e9, "G"),
        v => (v / 1e12, "T"),
    };
    format!("{} {prefix}", show_digits(scaled))
}

/// A size, exact below 10,000 bytes: `100 B`, `1,442 B`, `32.0 KB`, `1.00 MB`.
pub fn show_bytes(bytes: f64) -> String {
    match bytes {
        b if b < 999.5 && b.fract() != 0.0 => format!("{} B", show_digits(b)),
        b if b < 9_999.5 => format!("{} B", show_count(b.round() as u64)),
        b if b < 999_500.0 => format!("{} KB", show_digits(b / 1e3)),
        b if b < 999.5e6 => format!("{} MB", show_digits(b / 1e6)),
        b => format!("{} GB", show_digits(b / 1e9)),
    }
}

/// A count with its digits in groups of three: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("0ns", 0),
            ("250us", 250_000),
            ("100ms", 100_000_000),
            ("5s", 5_000_000_000),
            (" 1.5 s ", 1_500_000_000),
            ("2min", 120_000_000_000),
            ("1_000ns", 1_000),
            ("3µs", 3_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Nanos(ns)), "{text}");
        }
        for (text, reason) in [
            ("5", "\"5\": has no unit; write a duration as in 250us, 100ms, 5s or 2min"),
            (
                "s",
                "\"s\": does not begin with a number; write a duration as in 250us, 100ms, 5s or 2min",
            ),
            (
                "1.2.3s",
                "\"1.2.3s\": the number cannot be read; write a duration as in 250us, 100ms, 5s or 2min",
            ),
            (
                "-1s",
                "\"-1s\": does not begin with a number; write a duration as in 250us, 100ms, 5s or 2min",
            ),
            (
                "3 days",
                "\"3 days\": has an unknown unit; write a duration as in 250us, 100ms, 5s or 2min",
            ),
            (
                "99999999999h",
                "\"99999999999h\": is too large; write a duration as in 250us, 100ms, 5s or 2min",
            ),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("100", 100),
            ("100B", 100),
            ("32KB", 32_000),
            ("32kb", 32_000),
            ("1MB", 1_000_000),
            ("64KiB", 65_536),
            ("1.5MiB", 1_572_864),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert!(parse_size("10 apples").is_err());
        assert!(parse_size("").is_err());
    }

    #[test]
    fn rates() {
        for (text, rate) in [
            ("1000000", Rate::Rps(1e6)),
            ("250k", Rate::Rps(250e3)),
            ("1.5M/s", Rate::Rps(1.5e6)),
            ("10 krps", Rate::Rps(10e3)),
            ("10Gbps", Rate::Bps(10e9)),
            ("500 mbps", Rate::Bps(500e6)),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        for text in ["0", "0Gbps", "10 parsecs", "xbps", ""] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(Rate::Bps(8e9).rps(1000.0), 1e6);
        assert_eq!(Rate::Rps(5.0).scaled(2.0), Rate::Rps(10.0));
        assert_eq!(Rate::Rps(100e3).to_string(), "100 kRPC/s");
        assert_eq!(Rate::Bps(10e9).to_string(), "10.0 Gbps of payload");
        let wire = Rate::WireBps { bps: 16e9, request_mean_bytes: 1000.0 };
        assert_eq!(wire.scaled(0.5).rps(882.0), 1e6);
        assert_eq!(wire.to_string(), "16.0 Gbps on the wire");
    }

    #[test]
    fn shown_with_show_digits() {
        for (ns, text) in [
            (0.0, "0 us"),
            (53.0, "0.053 us"),
            (999.9, "1.00 us"),
            (5_234.0, "5.23 us"),
            (52_340.0, "52.3 us"),
            (523_400.0, "523 us"),
            (999_600.0, "1.00 ms"),
            (90e6, "90.0 ms"),
            (61e9, "61.0 s"),
        ] {
            assert_eq!(show_ns(ns), text);
        }
        assert_eq!(show_scaled(999.6), "1.00 k");
        assert_eq!(show_scaled(12.34e6), "12.3 M");
        assert_eq!(show_bytes(27.0), "27 B");
        assert_eq!(show_bytes(1442.0), "1,442 B");
        assert_eq!(show_bytes(120_373.0), "120 KB");
        assert_eq!(show_bytes(187.5), "188 B");
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(1_234_567), "1,234,567");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,24}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = text.parse::<Rate>();
        }

        #[test]
        fn whole_numbers_survive(bytes in 0_u64..1 << 52) {
            prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(parse_duration(&format!("{bytes}ns")), Ok(Nanos(bytes)));
        }
    }
}
