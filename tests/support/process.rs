//! Processes that a test starts, and what they say.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer than this, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running process. Killed when dropped, and when the thread of the test ends.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Said,
    stderr: Said,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The name it was started with.
    pub(crate) name: String,
    /// Its exit code or signal.
    pub(crate) status: ExitStatus,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

/// The arguments that run `homa-load` with `args`.
pub(crate) fn homa_load<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_homa-load").to_owned();
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    // The words of one string are arguments, so that calls read like a command line.
    let words = args.flat_map(|arg| arg.split(' ').map(str::to_owned).collect::<Vec<_>>());
    std::iter::once(program).chain(words.filter(|word| !word.is_empty())).collect()
}

/// The arguments that run the ignored test `role` of this program as a process of its own; it reads
/// `parameter` with [`role_parameter`].
pub(crate) fn role(role: &str, parameter: &str) -> Vec<String> {
    let program = std::env::current_exe().expect("the path of this program");
    let program = program.display().to_string();
    let parameter = format!("{ROLE_PARAMETER}={parameter}");
    ["env", &parameter, &program, "--ignored", "--exact", role, "--nocapture"]
        .map(str::to_owned)
        .to_vec()
}

const ROLE_PARAMETER: &str = "HOMA_TEST_PARAMETER";

/// What the process was told by the one that started it.
pub(crate) fn role_parameter() -> String {
    std::env::var(ROLE_PARAMETER)
        .unwrap_or_else(|_| panic!("{ROLE_PARAMETER} is not set: other tests start this one"))
}

impl Process {
    /// Starts `command`, whose first word is the program.
    pub(crate) fn spawn(name: &str, command: &[String]) -> Self {
        // Ended by the kernel with the thread that started it, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv runs: install util-linux");
        let stdout = Said::listen(child.stdout.take().expect("piped"));
        let stderr = Said::listen(child.stderr.take().expect("piped"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line with `text` was written to standard output, and returns the last such.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_until_said(text, |process| &process.stdout)
    }

    /// The same for standard error.
    pub(crate) fn wait_for_complaint(&mut self, text: &str) -> String {
        self.wait_until_said(text, |process| &process.stderr)
    }

    fn wait_until_said(&mut self, text: &str, channel: fn(&Self) -> &Said) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().expect("a child").is_some();
            if let Some(line) = channel(self).last_line_with(text) {
                return line;
            }
            assert!(!ended, "{} ended without saying '{text}': {}", self.name, self.all_said());
            assert!(
                Instant::now() < deadline,
                "{} did not say '{text}': {}",
                self.name,
                self.all_said()
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether it is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let script = ["-c", "kill -s \"$0\" \"$1\"", signal, &pid];
        let status = Command::new("sh").args(script).status().expect("a shell runs");
        assert!(status.success(), "{} takes a signal {signal}", self.name);
    }

    /// Ends the standard input of the process.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
                return Ended { name: self.name.clone(), status, stdout, stderr };
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {PATIENCE:?}: {}",
                self.name,
                self.all_said()
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn all_said(&self) -> String {
        format!("stdout:\n{}stderr:\n{}", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `command` and waits for its end.
pub(crate) fn run(name: &str, command: &[String]) -> Ended {
    let mut process = Process::spawn(name, command);
    process.end_input();
    process.wait()
}

impl Ended {
    /// Fails the test unless the exit code is `code`.
    pub(crate) fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{} ({}):\nstdout:\n{}stderr:\n{}",
            self.name,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard error, which must be one line.
    pub(crate) fn one_line_of_stderr(&self) -> &str {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{} says in one line what is wrong: {lines:#?}", self.name);
        lines[0]
    }
}

/// What came out of a pipe so far.
#[derive(Debug)]
struct Said {
    lines: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn listen(pipe: impl Read + Send + 'static) -> Self {
        let lines: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let mut lines = written.lock().expect("no reader panics");
                lines.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.lines.lock().expect("no reader panics").clone()
    }

    fn last_line_with(&self, text: &str) -> Option<String> {
        let lines = self.lines.lock().expect("no reader panics");
        lines.lines().rfind(|line| line.contains(text)).map(str::to_owned)
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
        self.text()
    }
}
