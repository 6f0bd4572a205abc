//! What coordinator and agents say to each other: one JSON object a line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::load::report::hosts::Served;
use crate::load::report::{Report, SideReport};

/// Name and version of the protocol. Both sides must speak the same.
pub const PROTOCOL: &str = "homa-load-cluster/1";

/// The longest line of a peer that has not introduced itself.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// The longest line otherwise: a report has a histogram for each size class.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How an agent introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: String,
    /// Version of the program.
    pub version: String,
    /// Name of the host, for people.
    pub name: String,
    /// The place that the host wants in the cluster, from 0; absent if any will do.
    pub rank: Option<u32>,
    /// The host's address in the network under test.
    pub address: IpAddr,
    /// The Homa port of its server.
    pub port: u16,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its address in the network under test.
    pub address: IpAddr,
    /// The Homa port of its server.
    pub port: u16,
}

/// What an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The agent's place in `hosts`.
    pub rank: u32,
    /// All hosts, by rank.
    pub hosts: Vec<Host>,
    /// Who sends to whom: a pattern by its name.
    pub pattern: String,
    /// The load, as options of the command line of `homa-load client`.
    pub flags: Vec<String>,
    /// The files that further options name; agents have no such files.
    pub files: Vec<LoadFile>,
    /// Silence after which coordinator and agent take each other for gone.
    pub silence_ms: u64,
}

/// A file that an option of the load names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFile {
    /// The option, such as `--workload`.
    pub option: String,
    /// The name of the file, without its directory.
    pub name: String,
    /// What is in it.
    pub content: String,
}

/// How far an agent's load is; a sign of life besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// RPCs completed so far, those of the warm-up among them.
    pub completed: u64,
    /// Payload of their requests and responses.
    pub bytes: u64,
    /// RPCs under way.
    pub outstanding: u32,
}

/// What an agent gives at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostResult {
    /// The load that it sent; absent for a host that sends to nobody.
    pub report: Option<Report>,
    /// What it answered.
    pub served: Served,
    /// What that cost.
    pub server: SideReport,
    /// Counters of its transport and its port, by name.
    pub counters: BTreeMap<String, u64>,
}

/// From an agent to the coordinator, in this order but for `Alive` and `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first message.
    Hello(Hello),
    /// The node is there and answers requests.
    Up,
    /// All hosts that this one will send to have answered.
    Ready,
    /// Once a second.
    Alive(Alive),
    /// The load is over; requests are still answered.
    Finished,
    /// The last message. Before the coordinator has said `Stop`: the agent was told to stop by others.
    Result(Box<HostResult>),
    /// The last message: the agent cannot go on.
    Failed {
        /// Why, in one line.
        reason: String,
    },
}

/// From the coordinator to an agent, in this order but for `Alive` and `Refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromCoordinator {
    /// The last message: the agent is not wanted.
    Refused {
        /// Why, in one line.
        reason: String,
    },
    /// The cluster is complete: start the node.
    Assign(Assignment),
    /// All nodes are up: find the way to those that you will send to.
    Greet,
    /// All are ready: begin.
    Start,
    /// Once a second.
    Alive,
    /// All have finished, or something is wrong: say what came out.
    Stop,
}

/// Why a message could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The other side has closed the connection, or is gone.
    Closed,
    /// Nothing was heard for the time after which the other side is taken for gone.
    Silent,
    /// A line longer than this many bytes.
    TooLong(usize),
    /// A line that is no message.
    Malformed(String),
    /// The other side speaks another version of the protocol, or another protocol.
    Version(String),
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed"),
            Self::Silent => f.write_str("nothing heard for too long"),
            Self::TooLong(bytes) => write!(f, "a message of more than {bytes} bytes"),
            Self::Malformed(text) => write!(f, "a message that cannot be read: {text}"),
            Self::Version(theirs) => write!(
                f,
                "it speaks \"{theirs}\", this program \"{PROTOCOL}\": use one version of homa-load \
                 on all hosts"
            ),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Reads messages from a stream. A stream with a read timeout gives [`LinkError::Silent`] when nothing
/// comes for that long.
#[derive(Debug)]
pub struct MessageReader<R> {
    stream: R,
    /// Bytes read and not yet given out.
    held: Vec<u8>,
    /// What of `held` is known to be without a line feed.
    searched: usize,
    bytes_max: usize,
}

impl<R: Read> MessageReader<R> {
    /// A reader of lines of up to [`HELLO_BYTES_MAX`].
    pub const fn new(stream: R) -> Self {
        Self { stream, held: Vec::new(), searched: 0, bytes_max: HELLO_BYTES_MAX }
    }

    /// From now on lines may have `bytes_max` bytes.
    pub const fn allow(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// The next message.
    ///
    /// # Errors
    /// The stream ended or failed, was silent for too long, or the line is too long or no message.
    pub fn read<T: DeserializeOwned>(&mut self) -> Result<T, LinkError> {
        let line = self.line()?;
        serde_json::from_slice(&line).map_err(|error| LinkError::Malformed(error.to_string()))
    }

    /// The first message of an agent.
    ///
    /// # Errors
    /// As [`Self::read`], and when the agent speaks another version.
    pub fn read_hello(&mut self) -> Result<Hello, LinkError> {
        /// What all versions have in common.
        #[derive(Deserialize)]
        struct AnyHello {
            protocol: String,
        }
        let malformed = |error: serde_json::Error| LinkError::Malformed(error.to_string());
        let line = self.line()?;
        let any: AnyHello = serde_json::from_slice(&line).map_err(malformed)?;
        if any.protocol != PROTOCOL {
            return Err(LinkError::Version(any.protocol));
        }
        match serde_json::from_slice(&line).map_err(malformed)? {
            FromAgent::Hello(hello) => Ok(hello),
            _ => Err(LinkError::Malformed("the first message is not \"hello\"".to_owned())),
        }
    }

    /// The next line, without its line feed.
    fn line(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut piece = [0; 16 << 10];
        loop {
            if let Some(at) = self.held[self.searched..].iter().position(|&byte| byte == b'\n') {
                let end = self.searched + at;
                let rest = self.held.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.truncate(end);
                self.searched = 0;
                return if line.len() > self.bytes_max {
                    Err(LinkError::TooLong(self.bytes_max))
                } else {
                    Ok(line)
                };
            }
            self.searched = self.held.len();
            if self.held.len() > self.bytes_max {
                return Err(LinkError::TooLong(self.bytes_max));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(bytes) => self.held.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes one message.
///
/// # Errors
/// The stream failed, or did not take the message within its write timeout.
pub fn write_message<T: Serialize>(mut stream: impl Write, message: &T) -> Result<(), LinkError> {
    let mut line =
        serde_json::to_vec(message).map_err(|error| LinkError::Malformed(error.to_string()))?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A stream that gives out one piece per read, then is silent or ends.
    struct Pieces(VecDeque<Vec<u8>>, Option<ErrorKind>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match (self.0.pop_front(), self.1) {
                (Some(piece), _) => {
                    into[..piece.len()].copy_from_slice(&piece);
                    Ok(piece.len())
                }
                (None, Some(kind)) => Err(kind.into()),
                (None, None) => Ok(0),
            }
        }
    }

    fn pieces(text: &str, bytes: usize, end: Option<ErrorKind>) -> MessageReader<Pieces> {
        let pieces = text.as_bytes().chunks(bytes).map(<[u8]>::to_vec).collect();
        MessageReader::new(Pieces(pieces, end))
    }

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL.to_owned(),
            version: "1.2.3".to_owned(),
            name: "n1".to_owned(),
            rank: Some(3),
            address: "10.0.0.1".parse().unwrap(),
            port: 4000,
        }
    }

    #[test]
    fn messages_survive_any_division_into_packets() {
        let sent = [
            FromAgent::Hello(hello()),
            FromAgent::Up,
            FromAgent::Alive(Alive { completed: 7, bytes: 8, outstanding: 9 }),
            FromAgent::Failed { reason: "a line\nfeed".to_owned() },
        ];
        let mut text = Vec::new();
        for message in &sent {
            write_message(&mut text, message).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), sent.len());
        for bytes in [1, 2, 7, 1_000] {
            let mut reader = pieces(&text, bytes, None);
            for message in &sent {
                assert_eq!(&reader.read::<FromAgent>().unwrap(), message);
            }
            assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::Closed)));
        }
    }

    #[test]
    fn a_line_that_is_cut_off_is_no_message() {
        let mut reader = pieces(r#"{"type":"up"}"#, 5, None);
        assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::Closed)));
    }

    #[test]
    fn silence_in_the_middle_of_a_line_is_told_from_the_end() {
        for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
            let mut reader = pieces("{\"type\":", 100, Some(kind));
            assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::Silent)));
            // The line goes on.
            reader.stream = Pieces([b"\"up\"}\n".to_vec()].into(), None);
            assert_eq!(reader.read::<FromAgent>().unwrap(), FromAgent::Up);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in ["\n", "{}\n", "nonsense\n", "{\"type\":\"dance\"}\n", "\u{0}\n"] {
            let error = pieces(text, 100, None).read::<FromAgent>().unwrap_err();
            assert!(matches!(error, LinkError::Malformed(_)), "{text:?}: {error}");
        }
        // The next line is read all the same.
        let mut reader = pieces("{}\n{\"type\":\"up\"}\n", 100, None);
        assert!(reader.read::<FromAgent>().is_err());
        assert_eq!(reader.read::<FromAgent>().unwrap(), FromAgent::Up);
    }

    #[test]
    fn long_lines_are_refused_before_they_are_held() {
        let long = "x".repeat(HELLO_BYTES_MAX + 20_000);
        let mut reader = pieces(&long, 10_000, None);
        assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::TooLong(HELLO_BYTES_MAX))));
        assert!(reader.held.len() <= HELLO_BYTES_MAX + 10_000);
        // Also when the end of the line is there already.
        let line = format!("{long}\n");
        let mut reader = pieces(&line, 1 << 14, None);
        assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::TooLong(_))));
        let mut reader = pieces(&line, 1 << 14, None);
        reader.allow(MESSAGE_BYTES_MAX);
        assert!(matches!(reader.read::<FromAgent>(), Err(LinkError::Malformed(_))));
    }

    #[test]
    fn the_first_message_must_be_a_hello_of_our_version() {
        let line = |message: &FromAgent| serde_json::to_string(message).unwrap() + "\n";
        let read = |text: &str| pieces(text, 100, None).read_hello();
        assert_eq!(read(&line(&FromAgent::Hello(hello()))).unwrap(), hello());
        let other = Hello { protocol: "homa-load-cluster/2".to_owned(), ..hello() };
        let error = read(&line(&FromAgent::Hello(other))).unwrap_err();
        assert!(matches!(&error, LinkError::Version(theirs) if theirs == "homa-load-cluster/2"));
        assert!(error.to_string().contains("use one version of homa-load"), "{error}");
        // A later version may have other members.
        let later = r#"{"protocol":"homa-load-cluster/9","type":"greetings","who":1}"#;
        assert!(matches!(read(&format!("{later}\n")), Err(LinkError::Version(_))));
        assert!(matches!(read(&line(&FromAgent::Up)), Err(LinkError::Malformed(_))));
        let up = format!(r#"{{"type":"up","protocol":"{PROTOCOL}"}}"#);
        assert!(matches!(read(&format!("{up}\n")), Err(LinkError::Malformed(_))));
    }

    #[test]
    fn errors_of_streams_are_sorted() {
        let of = |kind: ErrorKind| LinkError::from(io::Error::from(kind));
        assert!(matches!(of(ErrorKind::ConnectionReset), LinkError::Closed));
        assert!(matches!(of(ErrorKind::BrokenPipe), LinkError::Closed));
        assert!(matches!(of(ErrorKind::WouldBlock), LinkError::Silent));
        assert!(matches!(of(ErrorKind::PermissionDenied), LinkError::Io(_)));
    }
}
