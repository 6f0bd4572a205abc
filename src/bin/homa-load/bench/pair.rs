//! The two processes of one run: started, listened to, ended in the right order.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use homa::load::bench::Sampled;

use super::priority;
use super::side::{Said, SideResult, SideSpec};

/// How long a process may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run gave, of both sides.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) windows: Vec<Sampled>,
    pub(super) failed: u64,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) priority: String,
}

/// Runs the client that `spec` describes, and its server on `server_cpu`.
///
/// The side that polls must not be there when the other takes the shared memory away. So the server
/// is ended when the client has said that it polls no more, and the client after the server.
pub(super) fn run(spec: &SideSpec, server_cpu: usize) -> Result<Measured, Box<dyn Error>> {
    let length = Duration::from_nanos(spec.warm_up_ns + spec.duration_ns);
    let server_spec = SideSpec { is_server: true, cpu: server_cpu, ..spec.clone() };
    let mut server = Side::start("server", &server_spec)?;
    let endpoint = server.endpoint()?;
    let mut client = Side::start("client", &SideSpec { endpoint, ..spec.clone() })?;
    let of_client = client.result(length + PATIENCE)?;
    server.close_input();
    let of_server = server.result(PATIENCE)?;
    server.end()?;
    client.end()?;
    Ok(merge(of_client, of_server)?)
}

/// Frames that go one way are measured by the server, everything else by the client.
fn merge(client: SideResult, server: SideResult) -> Result<Measured, String> {
    let windows = if client.windows.is_empty() { server.windows } else { client.windows };
    if windows.is_empty() {
        return Err("nothing was completed in any window".to_owned());
    }
    let of_server = server.counters.into_iter();
    let of_server = of_server.map(|(name, value)| (format!("server_{name}"), value));
    Ok(Measured {
        windows,
        failed: client.failed + server.failed,
        counters: client.counters.into_iter().chain(of_server).collect(),
        priority: client.priority,
    })
}

/// A process; killed when dropped before it has ended.
struct Side {
    name: &'static str,
    child: Child,
    said: Receiver<Said>,
}

impl Side {
    fn start(name: &'static str, spec: &SideSpec) -> Result<Self, Box<dyn Error>> {
        let mut command = priority::command()?;
        command.arg("bench-side").arg(serde_json::to_string(spec)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if command.get_program() != "setsid" {
            // Ctrl-C is for this process alone, which then ends the run in good order. A session of
            // its own does that as well.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| format!("no {name} process: {error}"))?;
        let output = child.stdout.take().ok_or("no standard output of a child process")?;
        Ok(Self { name, said: listen(output), child })
    }

    /// What the process says next.
    fn listen(&mut self, patience: Duration) -> Result<Said, String> {
        let name = self.name;
        self.said.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("the {name} said nothing for {patience:?}"),
            RecvTimeoutError::Disconnected => match self.wait() {
                Ok(status) => format!("the {name} process ended early ({status})"),
                Err(error) => error,
            },
        })
    }

    /// Where the server can be reached.
    fn endpoint(&mut self) -> Result<String, String> {
        match self.listen(PATIENCE)? {
            Said::Ready { endpoint } => Ok(endpoint),
            Said::Done(_) => Err(format!("the {} ended before it began", self.name)),
            Said::Failed(error) => Err(self.failure(&error)),
        }
    }

    fn result(&mut self, patience: Duration) -> Result<SideResult, String> {
        match self.listen(patience)? {
            Said::Done(result) => Ok(result),
            Said::Ready { .. } => Err(format!("the {} began twice", self.name)),
            Said::Failed(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &str) -> String {
        format!("the {}: {error}", self.name)
    }

    fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Lets the process end, and waits for it.
    fn end(&mut self) -> Result<(), String> {
        self.close_input();
        match (self.wait()?, self.said.recv_timeout(PATIENCE)) {
            (status, _) if status.success() => Ok(()),
            (_, Ok(Said::Failed(error))) => Err(self.failure(&error)),
            (status, _) => Err(format!("the {} process did not end well ({status})", self.name)),
        }
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus, String> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None) => return Err(format!("the {} did not end in {PATIENCE:?}", self.name)),
                Err(error) => {
                    return Err(format!("the {} cannot be waited for: {error}", self.name));
                }
            }
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Passes on what a process says, line by line, until it ends.
fn listen(output: ChildStdout) -> Receiver<Said> {
    let (sender, receiver) = sync_channel(2);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                // Nobody listens any more when the run has failed.
                Ok(said) => drop(sender.send(said)),
                Err(_) => log::warn!("a process of the benchmark said: {line}"),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(windows: &[Sampled], name: &str) -> SideResult {
        SideResult {
            windows: windows.to_vec(),
            failed: 1,
            counters: BTreeMap::from([(name.to_owned(), 7)]),
            priority: String::new(),
        }
    }

    #[test]
    fn whoever_measured_gives_the_windows() {
        let (ours, theirs) = ([Sampled(1.0, 2.0)], [Sampled(3.0, 0.0)]);
        let measured = merge(result(&ours, "sent"), result(&[], "received")).unwrap();
        assert_eq!((measured.windows.as_slice(), measured.failed), (&ours[..], 2));
        assert_eq!(measured.counters["sent"], 7);
        assert_eq!(measured.counters["server_received"], 7);
        let measured = merge(result(&[], "sent"), result(&theirs, "received")).unwrap();
        assert_eq!(measured.windows, theirs);
        assert!(merge(result(&[], "a"), result(&[], "b")).is_err());
    }
}
