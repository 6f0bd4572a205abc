//! Processes that start what they do at the same time.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long the others may take to get ready.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// So many processes meet in this directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meeting {
    pub(crate) count: usize,
    pub(crate) directory: PathBuf,
}

impl FromStr for Meeting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(count, directory)| {
            Some(Self { count: count.parse().ok()?, directory: directory.into() })
        });
        parts.ok_or_else(|| format!("'{text}' is not COUNT:DIR"))
    }
}

impl Meeting {
    /// Waits until all are there.
    ///
    /// # Errors
    /// When they do not come, or the directory cannot be used.
    pub(crate) fn wait(&self) -> io::Result<()> {
        std::fs::write(self.directory.join(std::process::id().to_string()), [])?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let there = std::fs::read_dir(&self.directory)?.count();
            if there >= self.count {
                return Ok(());
            }
            if Instant::now() > give_up {
                let text = format!("{there} of {} transports got ready", self.count);
                return Err(io::Error::other(text));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_and_directory_are_read() {
        let meeting = Meeting { count: 2, directory: "/tmp/a:b".into() };
        assert_eq!("2:/tmp/a:b".parse(), Ok(meeting));
        for text in ["2", "x:/tmp", ""] {
            assert!(text.parse::<Meeting>().unwrap_err().contains("COUNT:DIR"), "{text}");
        }
    }

    #[test]
    fn nobody_goes_before_all_are_there() {
        let directory = std::env::temp_dir().join(format!("homa-meeting-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let meeting = Meeting { count: 2, directory: directory.clone() };
        let waiting = std::thread::spawn(move || meeting.wait());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        std::fs::write(directory.join("other"), []).unwrap();
        waiting.join().unwrap().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
