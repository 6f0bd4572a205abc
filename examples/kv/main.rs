//! A key-value store over Homa: GET, PUT and DELETE, one message each way.
//!
//! Two processes on one machine, joined by shared memory. Start the server first:
//!
//! ```text
//! cargo run --release --example kv -- server memif:/tmp/kv.sock,role=server 10.0.0.2
//! cargo run --release --example kv -- client memif:/tmp/kv.sock,role=client 10.0.0.1 10.0.0.2 \
//!     put colour blue get colour delete colour get colour
//! ```
//!
//! The client does its operations in order and ends. Its exit code is 0 if the store understood and
//! did all of them; a key that is not there is an answer, not a failure.

mod codec;
mod store;

use std::collections::VecDeque;
use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use bytes::BufMut;
use homa::dpdk::allowed_cpus;
use homa::node::{
    App, CallFailed, Cx, Message, MessageBuf, Node, NodeConfig, Response, stop_on_signals,
};
use homa::wire::HomaPort;

use codec::{RESPONSE_HEADER_BYTES, Request, Status};
use store::Store;

const PORT: HomaPort = HomaPort(4100);
/// Bytes that the server stores.
const STORE_BYTES_MAX: usize = 256 << 20;

/// Calls `look` with the bytes of a message. Those of a message of several packets are joined first.
fn with_bytes<R>(message: &Message, look: impl FnOnce(&[u8]) -> R) -> R {
    match message.as_contiguous() {
        Some(bytes) => look(bytes),
        None => look(&message.to_vec()),
    }
}

struct KvServer {
    store: Store,
}

impl KvServer {
    /// Does what `bytes` ask for and writes the answer. `None` when packet buffers run out.
    fn answer(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Option<MessageBuf> {
        let status = match Request::parse(bytes) {
            Err(error) => {
                return response(cx, Status::BadRequest, error.to_string().as_bytes());
            }
            Ok(Request::Get { key }) => match self.store.get(key) {
                Some(value) => return response(cx, Status::Ok, value),
                None => Status::NotFound,
            },
            Ok(Request::Put { key, value }) => match self.store.put(key, value) {
                Ok(()) => Status::Ok,
                Err(store::Full) => Status::Full,
            },
            Ok(Request::Delete { key }) if self.store.delete(key) => Status::Ok,
            Ok(Request::Delete { .. }) => Status::NotFound,
        };
        response(cx, status, &[])
    }
}

fn response(cx: &mut Cx<'_>, status: Status, value: &[u8]) -> Option<MessageBuf> {
    let mut response = cx.alloc(RESPONSE_HEADER_BYTES + value.len()).ok()?;
    response.put_u8(status as u8);
    response.put_slice(value);
    Some(response)
}

impl App for KvServer {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.open_server_port(PORT);
    }

    fn on_request(&mut self, cx: &mut Cx<'_>, request: homa::node::Request) {
        // Without a buffer for the answer the request is dropped, and its client times out.
        let Some(response) = with_bytes(&request.message, |bytes| self.answer(cx, bytes)) else {
            return;
        };
        if let Err(refused) = request.reply(cx, response) {
            eprintln!("no reply: {}", refused.reason);
        }
    }

    fn on_response(&mut self, _: &mut Cx<'_>, _: Result<Response, CallFailed>) {
        // The server calls nobody.
    }
}

/// An operation as the command line gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    Get(String),
    Put(String, String),
    Delete(String),
}

impl Operation {
    fn request(&self) -> Request<'_> {
        match self {
            Self::Get(key) => Request::Get { key: key.as_bytes() },
            Self::Put(key, value) => Request::Put { key: key.as_bytes(), value: value.as_bytes() },
            Self::Delete(key) => Request::Delete { key: key.as_bytes() },
        }
    }

    /// Reads a list of operations.
    fn parse_all(mut words: &[&str]) -> Result<VecDeque<Self>, String> {
        let mut operations = VecDeque::new();
        while !words.is_empty() {
            let (operation, rest) = match *words {
                ["get", key, ref rest @ ..] => (Self::Get(key.into()), rest),
                ["put", key, value, ref rest @ ..] => (Self::Put(key.into(), value.into()), rest),
                ["delete", key, ref rest @ ..] => (Self::Delete(key.into()), rest),
                _ => {
                    return Err(format!(
                        "'{}' is not an operation: write get KEY, put KEY VALUE or delete KEY",
                        words.join(" ")
                    ));
                }
            };
            operations.push_back(operation);
            words = rest;
        }
        Ok(operations)
    }
}

/// Does operations one after another, prints the answers and says at the end how it went.
struct KvClient {
    server: IpAddr,
    operations: VecDeque<Operation>,
    failure: Option<String>,
    done: Sender<Option<String>>,
}

impl KvClient {
    /// Starts the first of the remaining operations, or ends.
    fn next(&mut self, cx: &mut Cx<'_>) {
        let Some(operation) = self.operations.front() else { return self.finish(cx) };
        if let Err(reason) = self.send(cx, operation) {
            self.failure = Some(reason);
            self.finish(cx);
        }
    }

    fn send(&self, cx: &mut Cx<'_>, operation: &Operation) -> Result<(), String> {
        let mut bytes = Vec::new();
        operation.request().emit(&mut bytes).map_err(|error| error.to_string())?;
        let request = cx.message(&bytes).map_err(|error| error.to_string())?;
        cx.call(self.server, PORT, request, 0).map_err(|refused| refused.reason.to_string())?;
        Ok(())
    }

    fn show(&mut self, operation: &Operation, bytes: &[u8]) {
        match Status::parse(bytes) {
            Ok((Status::Ok, value)) if matches!(operation, Operation::Get(_)) => {
                println!("{operation:?}: {}", String::from_utf8_lossy(value));
            }
            Ok((Status::Ok, _)) => println!("{operation:?}: done"),
            Ok((Status::NotFound, _)) => println!("{operation:?}: not found"),
            Ok((Status::BadRequest | Status::Full, reason)) => {
                let reason = String::from_utf8_lossy(reason);
                self.failure = Some(format!("{operation:?} was refused: {reason}"));
            }
            Err(error) => self.failure = Some(format!("{operation:?}: {error}")),
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        // The receiver lives as long as the node runs.
        let _ = self.done.send(self.failure.take());
        cx.stop();
    }
}

impl App for KvClient {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        self.next(cx);
    }

    fn on_request(&mut self, _: &mut Cx<'_>, _: homa::node::Request) {
        // No port is open for requests.
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        let Some(operation) = self.operations.pop_front() else { return };
        match response {
            Ok(response) => with_bytes(&response.message, |bytes| self.show(&operation, bytes)),
            Err(failed) => self.failure = Some(failed.to_string()),
        }
        if self.failure.is_some() {
            self.operations.clear();
        }
        self.next(cx);
    }
}

fn serve(config: &NodeConfig) -> Result<(), Box<dyn Error>> {
    let mut node = Node::start(config)?;
    stop_on_signals(&node.stop_flag())?;
    node.run(|_| KvServer { store: Store::new(STORE_BYTES_MAX) })?;
    Ok(node.close()?)
}

fn call(
    config: &NodeConfig,
    server: IpAddr,
    operations: VecDeque<Operation>,
) -> Result<(), Box<dyn Error>> {
    let mut node = Node::start(config)?;
    stop_on_signals(&node.stop_flag())?;
    let (done, result) = channel();
    node.run(|_| KvClient { server, operations, failure: None, done })?;
    node.close()?;
    match result.try_recv() {
        Ok(None) => Ok(()),
        Ok(Some(failure)) => Err(failure.into()),
        Err(_) => Err("interrupted".into()),
    }
}

const USAGE: &str = "usage: kv server DEVICE ADDRESS
       kv client DEVICE ADDRESS SERVER-ADDRESS OPERATION...
operations: get KEY, put KEY VALUE, delete KEY";

/// What the arguments ask for.
enum Role {
    Server(NodeConfig),
    Client(NodeConfig, IpAddr, VecDeque<Operation>),
}

impl Role {
    /// `None` if there are too few arguments or too many.
    fn parse(arguments: &[&str]) -> Result<Option<Self>, Box<dyn Error>> {
        let cpus = allowed_cpus();
        Ok(Some(match *arguments {
            ["server", device, address] => Self::Server(config(device, address, cpus.last())?),
            ["client", device, address, server, ref operations @ ..] if !operations.is_empty() => {
                let config = config(device, address, cpus.first())?;
                let server = server.parse().map_err(|_| bad_address(server))?;
                Self::Client(config, server, Operation::parse_all(operations)?)
            }
            _ => return Ok(None),
        }))
    }

    fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Server(config) => serve(&config),
            Self::Client(config, server, operations) => call(&config, server, operations),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let role = match Role::parse(&arguments) {
        Ok(Some(role)) => role,
        Ok(None) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match role.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A shard polls all the time, so a server and a client on one machine want a CPU each: the last one
/// and the first one that they may use.
fn config(device: &str, address: &str, cpu: Option<&usize>) -> Result<NodeConfig, Box<dyn Error>> {
    let config = NodeConfig::of_addresses(device.parse()?, vec![address.parse()?]);
    Ok(NodeConfig { cpus: cpu.copied().into_iter().collect(), ..config })
}

fn bad_address(text: &str) -> String {
    format!("'{text}' is not an address such as 10.0.0.1 or fd00::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_in_order() {
        let words = ["put", "k", "v", "get", "k", "delete", "k"];
        let operations = Operation::parse_all(&words).unwrap();
        let expected = [
            Operation::Put("k".into(), "v".into()),
            Operation::Get("k".into()),
            Operation::Delete("k".into()),
        ];
        assert_eq!(operations, expected);
    }

    #[test]
    fn half_an_operation_is_an_error_that_names_it() {
        for words in [&["put", "k"][..], &["get"], &["get", "k", "set", "k"]] {
            let error = Operation::parse_all(words).unwrap_err();
            assert!(error.contains("is not an operation"), "{error}");
        }
    }
}
