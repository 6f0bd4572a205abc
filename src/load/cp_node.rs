//! Messages and output of `cp_node`, the load generator that comes with Linux Homa, so that either end
//! of a measurement can be one of its processes.

use core::fmt::Write;
use std::time::Duration;

/// Bytes of [`Header`], with which every message begins.
pub const HEADER_BYTES: usize = 12;
/// Bytes of a short response.
pub const SHORT_RESPONSE_BYTES: u32 = 100;

/// The client asks for a short response.
pub const FLAG_SHORT_RESPONSE: u16 = 1 << 1;
/// The message is a response.
pub const FLAG_RESPONSE: u16 = 1 << 2;

/// What stands at the beginning of every message, in little endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the message, the header included.
    pub length: i32,
    /// The client's own name for the way to a server; comes back unchanged.
    pub connection: u32,
    /// The client's own number of the request; comes back unchanged.
    pub message: u16,
    /// [`FLAG_SHORT_RESPONSE`], [`FLAG_RESPONSE`]; bit 0 makes a server stop its traces.
    pub flags: u16,
}

impl Header {
    /// The first bytes of a message of which `bytes` are the beginning; `None` if it is too short.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, m0, m1, f0, f1] = *bytes;
        Some(Self {
            length: i32::from_le_bytes([l0, l1, l2, l3]),
            connection: u32::from_le_bytes([c0, c1, c2, c3]),
            message: u16::from_le_bytes([m0, m1]),
            flags: u16::from_le_bytes([f0, f1]),
        })
    }

    /// The bytes to begin a message with.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.connection.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.message.to_le_bytes());
        bytes[10..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// The header of the response to a request of `request_bytes`, and the length of that response.
    pub fn response(self, request_bytes: u32) -> (Self, u32) {
        let is_short = self.flags & FLAG_SHORT_RESPONSE != 0;
        let bytes = if is_short { SHORT_RESPONSE_BYTES } else { request_bytes };
        (Self { length: bytes as i32, flags: self.flags | FLAG_RESPONSE, ..self }, bytes)
    }
}

/// What passed in a second, or in what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// How long it really was.
    pub length: Duration,
    /// RPCs completed.
    pub rpcs: u64,
    /// Payload of their requests.
    pub request_bytes: u64,
    /// Payload of their responses.
    pub response_bytes: u64,
}

impl Second {
    fn kops(&self) -> f64 {
        self.per_second(self.rpcs) / 1e3
    }

    fn gbps(&self, bytes: u64) -> f64 {
        self.per_second(bytes) * 8.0 / 1e9
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.length.as_secs_f64().max(1e-9)
    }

    fn request_mean_bytes(&self) -> f64 {
        self.request_bytes as f64 / self.rpcs.max(1) as f64
    }
}

/// Makes the lines that users of `cp_node` parse. `time` is that since 1970.
#[derive(Clone, Debug)]
pub struct Lines {
    experiment: String,
}

impl Lines {
    /// Lines about the experiment of this name.
    pub fn new(experiment: impl Into<String>) -> Self {
        Self { experiment: experiment.into() }
    }

    /// What is offered, at the start of a client with a given rate.
    pub fn offered(&self, time: Duration, mean_bytes: f64, rate_per_s: f64) -> String {
        let (kb, krate) = (mean_bytes / 1e3, rate_per_s / 1e3);
        let gbps = mean_bytes * rate_per_s * 8.0 / 1e9;
        format!(
            "{} Average message length {kb:.1} KB, rate {krate:.2} K/sec, expected BW {gbps:.1} Gbps\n",
            stamp(time)
        )
    }

    /// A client's second. `rtt_us` are the quantiles 0.5, 0.99 and 0.999 in microseconds, `lag` the part
    /// of the time by which requests are late.
    pub fn client(
        &self,
        time: Duration,
        second: &Second,
        rtt_us: [f64; 3],
        lag: f64,
        outstanding: u32,
    ) -> String {
        let (stamp, name) = (stamp(time), &self.experiment);
        let [p50, p99, p999] = rtt_us;
        let mut lines = format!(
            "{stamp} {name} clients: {:.2} Kops/sec, {:.2} Gbps out, {:.2} Gbps in, RTT (us) P50 \
             {p50:.2} P99 {p99:.2} P99.9 {p999:.2}, avg. req. length {:.1} bytes\n",
            second.kops(),
            second.gbps(second.request_bytes),
            second.gbps(second.response_bytes),
            second.request_mean_bytes(),
        );
        if lag >= 0.01 {
            let percent = lag * 100.0;
            let _ =
                writeln!(lines, "{stamp} Lag due to overload for {name} experiment: {percent:.1}%");
        }
        let _ =
            writeln!(lines, "{stamp} Outstanding client RPCs for {name} experiment: {outstanding}");
        lines
    }

    /// A server's second. `total_rpcs` are those of each of its threads since the start.
    pub fn server(&self, time: Duration, second: &Second, total_rpcs: &[u64]) -> String {
        let (stamp, name) = (stamp(time), &self.experiment);
        let totals: Vec<String> = total_rpcs.iter().map(u64::to_string).collect();
        format!(
            "{stamp} {name} servers: {:.2} Kops/sec, {:.2} Gbps in, {:.2} Gbps out, avg. req. length \
             {:.1} bytes\n{stamp} RPCs per {name} server thread: {}\n",
            second.kops(),
            second.gbps(second.request_bytes),
            second.gbps(second.response_bytes),
            second.request_mean_bytes(),
            totals.join(" ")
        )
    }
}

/// Seconds since 1970 with nine decimals, ten digits before them.
fn stamp(time: Duration) -> String {
    format!("{:010}.{:09}", time.as_secs(), time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_little_endian() {
        let header =
            Header { length: 0x0102_0304, connection: 0x1112_1314, message: 0x2122, flags: 0x0002 };
        let bytes = [4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x22, 0x21, 2, 0];
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(Header::parse(&bytes), Some(header));
        assert_eq!(Header::parse(&bytes[..11]), None);
    }

    #[test]
    fn responses_are_as_long_as_requests_or_short() {
        let request = Header { length: 5_000, connection: 7, message: 9, flags: 0 };
        let response = Header { flags: FLAG_RESPONSE, ..request };
        assert_eq!(request.response(5_000), (response, 5_000));
        let request = Header { flags: FLAG_SHORT_RESPONSE, ..request };
        let flags = FLAG_SHORT_RESPONSE | FLAG_RESPONSE;
        assert_eq!(request.response(5_000), (Header { length: 100, flags, ..request }, 100));
    }

    const TIME: Duration = Duration::new(1_700_000_000, 12_345);

    fn second() -> Second {
        Second {
            length: Duration::from_secs(2),
            rpcs: 20_000,
            request_bytes: 20_000_000,
            response_bytes: 2_000_000,
        }
    }

    #[test]
    fn lines_are_those_of_cp_node() {
        let lines = Lines::new("homa_w4");
        assert_eq!(
            lines.offered(TIME, 3_000.0, 250_000.0),
            "1700000000.000012345 Average message length 3.0 KB, rate 250.00 K/sec, expected BW 6.0 \
             Gbps\n"
        );
        assert_eq!(
            lines.client(TIME, &second(), [12.345, 50.0, 100.5], 0.009, 17),
            "1700000000.000012345 homa_w4 clients: 10.00 Kops/sec, 0.08 Gbps out, 0.01 Gbps in, RTT \
             (us) P50 12.35 P99 50.00 P99.9 100.50, avg. req. length 1000.0 bytes\n\
             1700000000.000012345 Outstanding client RPCs for homa_w4 experiment: 17\n"
        );
        let overloaded = lines.client(TIME, &second(), [0.0; 3], 0.123, 17);
        assert!(overloaded.contains(
            "\n1700000000.000012345 Lag due to overload for homa_w4 experiment: 12.3%\n"
        ));
        assert_eq!(
            lines.server(TIME, &second(), &[20_000, 3]),
            "1700000000.000012345 homa_w4 servers: 10.00 Kops/sec, 0.08 Gbps in, 0.01 Gbps out, avg. \
             req. length 1000.0 bytes\n\
             1700000000.000012345 RPCs per homa_w4 server thread: 20000 3\n"
        );
    }

    #[test]
    fn a_time_stamp_has_ten_digits_and_nine() {
        assert_eq!(stamp(Duration::new(5, 6)), "0000000005.000000006");
        let silent = Lines::new("x").client(TIME, &Second::default(), [0.0; 3], 0.0, 0);
        assert!(silent.contains("avg. req. length 0.0 bytes"), "{silent}");
    }
}
