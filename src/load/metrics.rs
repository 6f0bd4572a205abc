//! Counters for Prometheus: the text, and the small HTTP server that gives it out.
//!
//! The server runs on a thread of its own and reads counters that shards publish for anyone; the packet
//! path does not know of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tiny_http::{Header, Method, Request, Response, Server};

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric with its values by label.
#[derive(Clone, Debug, PartialEq)]
struct Family {
    kind: Kind,
    help: String,
    /// Labels as they are written, and value.
    values: Vec<(String, f64)>,
}

/// Metrics as the text that Prometheus reads (version 0.0.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition(BTreeMap<String, Family>);

impl Exposition {
    /// Adds a value. The same metric may have many, with different labels; its kind and help are those of
    /// the first.
    pub fn add(&mut self, kind: Kind, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut shown = String::new();
        for (label, text) in labels {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing into a string does not fail.
            let _ =
                write!(shown, "{}{label}=\"{escaped}\"", if shown.is_empty() { "" } else { "," });
        }
        let family = self.0.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help: help.trim().replace('\\', "\\\\").replace('\n', " "),
            values: Vec::new(),
        });
        family.values.push((shown, value));
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, value) in &family.values {
                let _ = match labels.as_str() {
                    "" => writeln!(text, "{name} {value}"),
                    labels => writeln!(text, "{name}{{{labels}}} {value}"),
                };
            }
        }
        text
    }
}

/// An address to give metrics out at, taken but not yet served.
pub struct MetricsListener(Server);

impl std::fmt::Debug for MetricsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MetricsListener").field(&self.address()).finish()
    }
}

impl MetricsListener {
    /// Takes the address; port 0 for any.
    ///
    /// # Errors
    /// The address is not one of this machine, is in use, or needs rights.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Server::http(address).map(Self).map_err(|error| match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error.to_string()),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.server_addr().to_ip()
    }

    /// Answers `GET /metrics` with what `source` says, until it is dropped.
    pub fn serve(self, source: impl Fn() -> Exposition + Send + 'static) -> MetricsServer {
        let server = Arc::new(self.0);
        let serving = Arc::clone(&server);
        let thread = std::thread::spawn(move || {
            for request in serving.incoming_requests() {
                // A reader that has gone away is no concern of ours.
                let _ = answer(request, &source);
            }
        });
        MetricsServer { server, thread: Some(thread) }
    }
}

/// The running server; ends when dropped.
pub struct MetricsServer {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsServer").finish_non_exhaustive()
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, source: &impl Fn() -> Exposition) -> io::Result<()> {
    let is_read = matches!(request.method(), Method::Get | Method::Head);
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let (status, kind, body) = match (is_read, path.as_str()) {
        (true, "/metrics") => (200, "text/plain; version=0.0.4; charset=utf-8", source().text()),
        (true, "/") => (200, "text/plain; charset=utf-8", "homa-dpdk: see /metrics\n".to_owned()),
        (true, _) => (404, "text/plain; charset=utf-8", "only /metrics is here\n".to_owned()),
        (false, _) => (405, "text/plain; charset=utf-8", "only GET is possible\n".to_owned()),
    };
    let response = Response::from_string(body).with_status_code(status);
    match Header::from_bytes("Content-Type", kind) {
        Ok(header) => request.respond(response.with_header(header)),
        Err(()) => request.respond(response),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn exposition() -> Exposition {
        let mut metrics = Exposition::default();
        for shard in ["0", "1"] {
            let labels = [("shard", shard)];
            metrics.add(Kind::Counter, "homa_b_total", " RPCs,\nall.", &labels, 12.0);
        }
        metrics.add(Kind::Gauge, "homa_a", "A share.", &[], 0.25);
        metrics.add(Kind::Gauge, "homa_c", "x", &[("a", "q\"\\"), ("b", "2")], 1e15);
        metrics
    }

    const TEXT: &str = "# HELP homa_a A share.\n# TYPE homa_a gauge\nhoma_a 0.25\n\
        # HELP homa_b_total RPCs, all.\n# TYPE homa_b_total counter\n\
        homa_b_total{shard=\"0\"} 12\nhoma_b_total{shard=\"1\"} 12\n\
        # HELP homa_c x\n# TYPE homa_c gauge\nhoma_c{a=\"q\\\"\\\\\",b=\"2\"} 1000000000000000\n";

    #[test]
    fn the_text_is_that_of_prometheus() {
        assert_eq!(exposition().text(), TEXT);
    }

    fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

    #[test]
    fn it_answers_and_ends() {
        let listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let server = listener.serve(exposition);
        let answer = ask(address, "GET /metrics?x=1");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"));
        assert!(answer.ends_with(TEXT), "{answer}");
        assert!(ask(address, "GET /other").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics").starts_with("HTTP/1.1 405"));
        let taken = MetricsListener::bind(address);
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(server);
        // The thread that accepts connections ends a little later.
        let is_free = (0..3_000).any(|_| {
            std::thread::sleep(PAUSE);
            MetricsListener::bind(address).is_ok()
        });
        assert!(is_free, "the address is free again");
    }
}
