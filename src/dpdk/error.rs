//! What can go wrong while setting DPDK up. The packet path returns counts and options instead.

use std::ffi::CStr;
use std::fmt;

/// An error of a set-up or control operation. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be: what was given, and what would do.
    Config(String),
    /// EAL was started before in this process; DPDK starts once per process, even after a shutdown.
    AlreadyStarted,
    /// EAL did not start.
    Start {
        /// The first complaint of EAL, or the system's error text.
        complaint: String,
        /// What to do about it.
        advice: String,
    },
    /// A device that was asked for is not there or not usable.
    Device {
        /// The device as written by the user.
        device: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A DPDK call failed.
    Call {
        /// What was tried, on what.
        what: String,
        /// The positive error number.
        errno: i32,
    },
    /// Something still uses what was to be ended.
    InUse(String),
}

impl Error {
    pub(super) fn device(device: &impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Device { device: device.to_string(), problem: problem.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::InUse(text) => f.write_str(text),
            Self::AlreadyStarted => f.write_str(
                "DPDK was started before in this process and cannot start again: \
                 use the first Eal, or another process",
            ),
            Self::Start { complaint, advice } => {
                write!(f, "DPDK does not start: {complaint}: {advice}")
            }
            Self::Device { device, problem } => write!(f, "device {device}: {problem}"),
            Self::Call { what, errno } => write!(f, "{what}: {}", errno_text(*errno)),
        }
    }
}

impl std::error::Error for Error {}

/// The result of a DPDK call that returns zero or a negative error number.
pub(super) fn check(rc: i32, what: impl FnOnce() -> String) -> Result<(), Error> {
    if rc >= 0 { Ok(()) } else { Err(Error::Call { what: what(), errno: -rc }) }
}

/// DPDK's error variable of this thread.
pub(super) fn last_errno() -> i32 {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::homa_errno() }
}

/// The text for an error number, with the number.
pub(super) fn errno_text(errno: i32) -> String {
    // SAFETY: rte_strerror accepts every number and returns a NUL-terminated string that lives
    // until this thread calls it again; it is copied at once.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) };
    format!("{} (errno {errno})", text.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_subject_and_the_number() {
        let error = check(-22, || "configuring port net_ring0".into()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("configuring port net_ring0: Invalid argument"), "{text}");
        assert!(text.ends_with("(errno 22)"), "{text}");
        assert!(check(0, || unreachable!()).is_ok());
    }
}
