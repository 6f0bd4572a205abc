//! What `homa-load ping` says: one line for each RPC and a summary, in the form of ping(8).

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Nanos;
use crate::transport::RpcError;
use crate::wire::HomaPort;

/// Something that became of an RPC. RPCs are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It was answered.
    Answered {
        /// Bytes of the response.
        bytes: u32,
        /// From the call to the response.
        rtt: Nanos,
    },
    /// The server says that it is at work on it.
    Busy,
    /// It failed.
    Failed(RpcError),
    /// It could not be sent: no packet buffers, or too much under way.
    NotSent,
    /// The time is over.
    Unanswered {
        /// The server has said that it is at work on it.
        busy: bool,
    },
}

/// Counts outcomes and makes the lines.
#[derive(Clone, Debug)]
pub struct Ping {
    host: IpAddr,
    port: HomaPort,
    sent: u64,
    answered: u64,
    errors: u64,
    min: Nanos,
    max: Nanos,
    sum_ms: f64,
    sum_of_squares: f64,
}

impl Ping {
    /// Of a server.
    pub fn new(host: IpAddr, port: HomaPort) -> Self {
        Self {
            host,
            port,
            sent: 0,
            answered: 0,
            errors: 0,
            min: Nanos::MAX,
            max: Nanos::ZERO,
            sum_ms: 0.0,
            sum_of_squares: 0.0,
        }
    }

    /// The first line; `bytes` is the length of requests.
    pub fn header(&self, bytes: u32) -> String {
        format!("HOMA {} port {}: {bytes} bytes of data.\n", self.host, self.port)
    }

    /// Counts what became of RPC `number`, and gives the line about it, if there is one.
    pub fn line(&mut self, number: u64, outcome: Outcome) -> Option<String> {
        let Self { host, .. } = self;
        let from = format!("From {host}: homa_seq={number}");
        Some(match outcome {
            Outcome::Sent => {
                self.sent += 1;
                return None;
            }
            Outcome::Answered { bytes, rtt } => {
                let line = format!(
                    "{bytes} bytes from {host}: homa_seq={number} time={:.3} ms\n",
                    rtt.0 as f64 / 1e6
                );
                self.count_answer(rtt);
                line
            }
            Outcome::Busy => format!("{from} BUSY: the server is at work on it\n"),
            Outcome::Failed(RpcError::Timeout) | Outcome::Unanswered { busy: false } => {
                format!("no answer from {host}: homa_seq={number} timed out\n")
            }
            // Nobody said so who could be named: it does not answer, or a router has said it.
            Outcome::Failed(error @ RpcError::HostUnreachable) => {
                self.errors += 1;
                format!("no way to {host}: homa_seq={number} {error}\n")
            }
            Outcome::Failed(error) => {
                self.errors += 1;
                format!("{from} {error}\n")
            }
            Outcome::NotSent => {
                self.errors += 1;
                format!("homa_seq={number} not sent: no packet buffers\n")
            }
            Outcome::Unanswered { busy: true } => {
                format!("no answer from {host}: homa_seq={number} still BUSY\n")
            }
        })
    }

    fn count_answer(&mut self, rtt: Nanos) {
        let ms = rtt.0 as f64 / 1e6;
        self.answered += 1;
        self.min = self.min.min(rtt);
        self.max = self.max.max(rtt);
        self.sum_ms += ms;
        self.sum_of_squares += ms * ms;
    }

    /// The last lines, after `time`.
    pub fn summary(&self, time: Duration) -> String {
        let Self { host, sent, answered, .. } = self;
        let lost = (sent.saturating_sub(*answered)) as f64 * 100.0 / (*sent).max(1) as f64;
        let errors =
            if self.errors > 0 { format!("+{} errors, ", self.errors) } else { String::new() };
        let mut text = format!(
            "\n--- {host} homa ping statistics ---\n{sent} RPCs transmitted, {answered} received, \
             {errors}{lost:.0}% RPC loss, time {}ms\n",
            time.as_millis()
        );
        if *answered > 0 {
            let mean = self.sum_ms / *answered as f64;
            let variance = (self.sum_of_squares / *answered as f64 - mean * mean).max(0.0);
            text += &format!(
                "rtt min/avg/max/mdev = {:.3}/{mean:.3}/{:.3}/{:.3} ms\n",
                self.min.0 as f64 / 1e6,
                self.max.0 as f64 / 1e6,
                variance.sqrt()
            );
        }
        text
    }

    /// Whether the server has answered at all.
    pub fn is_alive(&self) -> bool {
        self.answered > 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ping() -> Ping {
        Ping::new(Ipv4Addr::new(10, 0, 0, 2).into(), HomaPort(4000))
    }

    #[test]
    fn lines_are_those_of_ping() {
        let mut ping = ping();
        assert_eq!(ping.header(100), "HOMA 10.0.0.2 port 4000: 100 bytes of data.\n");
        let outcomes = [
            (1, Outcome::Sent, ""),
            (
                1,
                Outcome::Answered { bytes: 100, rtt: Nanos::from_us(18) },
                "100 bytes from 10.0.0.2: homa_seq=1 time=0.018 ms\n",
            ),
            (2, Outcome::Sent, ""),
            (2, Outcome::Busy, "From 10.0.0.2: homa_seq=2 BUSY: the server is at work on it\n"),
            (
                2,
                Outcome::Answered { bytes: 100, rtt: Nanos::from_us(22) },
                "100 bytes from 10.0.0.2: homa_seq=2 time=0.022 ms\n",
            ),
            (3, Outcome::Sent, ""),
            (
                3,
                Outcome::Failed(RpcError::Timeout),
                "no answer from 10.0.0.2: homa_seq=3 timed out\n",
            ),
            (4, Outcome::Sent, ""),
            (
                4,
                Outcome::Failed(RpcError::PortUnreachable),
                "From 10.0.0.2: homa_seq=4 port unreachable: no server is bound to it at the peer\n",
            ),
            (
                4,
                Outcome::Failed(RpcError::HostUnreachable),
                "no way to 10.0.0.2: homa_seq=4 host unreachable\n",
            ),
        ];
        for (number, outcome, line) in outcomes {
            assert_eq!(ping.line(number, outcome).unwrap_or_default(), line);
        }
        assert_eq!(
            ping.summary(Duration::from_millis(3004)),
            "\n--- 10.0.0.2 homa ping statistics ---\n4 RPCs transmitted, 2 received, +2 errors, 50% \
             RPC loss, time 3004ms\nrtt min/avg/max/mdev = 0.018/0.020/0.022/0.002 ms\n"
        );
        assert!(ping.is_alive());
    }

    #[test]
    fn without_an_answer_there_are_no_times() {
        let mut ping = ping();
        ping.line(1, Outcome::Sent);
        let silent = ping.line(1, Outcome::Unanswered { busy: false }).unwrap();
        assert_eq!(silent, "no answer from 10.0.0.2: homa_seq=1 timed out\n");
        let busy = ping.line(1, Outcome::Unanswered { busy: true }).unwrap();
        assert_eq!(busy, "no answer from 10.0.0.2: homa_seq=1 still BUSY\n");
        let summary = ping.summary(Duration::from_secs(1));
        assert!(summary.ends_with("1 RPCs transmitted, 0 received, 100% RPC loss, time 1000ms\n"));
        assert!(!ping.is_alive());
    }
}
