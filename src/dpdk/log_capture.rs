//! Where DPDK's own messages go: to the `log` crate at level debug, and while EAL starts also into
//! a buffer, from which an error is explained; those are logged when it has started, for until then
//! standard error is turned away. Nothing of it reaches the terminal by itself.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic;
use std::sync::Mutex;

/// DPDK's number of a message that reports an error; smaller is worse.
const LEVEL_ERROR: i32 = 4;
const LINES_MAX: usize = 1_024;

/// The lines since EAL began to start; `None` when it is running.
static LINES: Mutex<Option<Vec<(i32, String)>>> = Mutex::new(None);

/// Takes DPDK's messages from now on and collects them until [`finish`].
pub(super) fn begin() {
    if let Ok(mut lines) = LINES.lock() {
        *lines = Some(Vec::new());
    }
    // SAFETY: the sink is a function of this program and lives as long as it.
    if unsafe { dpdk_sys::homa_log_to(Some(sink)) } != 0 {
        log::warn!("cannot route DPDK's messages: they go to the terminal");
    }
}

/// Ends the collection, logs it, and returns it, worst first, otherwise in the order they came. Not to be
/// called while standard error is turned away, where the log goes.
pub(super) fn finish() -> Vec<String> {
    let lines = LINES.lock().ok().and_then(|mut lines| lines.take()).unwrap_or_default();
    lines.iter().for_each(|(level, line)| log_line(*level, line));
    let (errors, rest): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|(level, _)| *level <= LEVEL_ERROR);
    errors.into_iter().chain(rest).map(|(_, line)| line).collect()
}

/// Called by whichever thread of DPDK has something to say.
///
/// # Safety
/// `text` points at `len` bytes, which nobody changes during the call.
unsafe extern "C" fn sink(level: i32, text: *const c_char, len: usize) {
    // SAFETY: the shim passes the buffer of the stream with its length.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    // A panicking logger must not unwind into C.
    let _ = panic::catch_unwind(|| write(level, &String::from_utf8_lossy(bytes)));
}

fn write(level: i32, text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let collected = LINES.lock().is_ok_and(|mut lines| match lines.as_mut() {
            Some(lines) if lines.len() < LINES_MAX => {
                lines.push((level, line.trim().to_owned()));
                true
            }
            Some(_) => true,
            None => false,
        });
        if !collected {
            log_line(level, line);
        }
    }
}

fn log_line(level: i32, line: &str) {
    if level <= LEVEL_ERROR {
        log::debug!(target: "dpdk", "{line}");
    } else {
        log::trace!(target: "dpdk", "{line}");
    }
}

/// Standard output and error turned away to a file in memory while EAL starts: its usage text and
/// early messages are printed, not logged.
#[derive(Debug)]
pub(super) struct Silence {
    memory: OwnedFd,
    saved: Vec<(i32, OwnedFd)>,
}

impl Silence {
    pub(super) fn begin() -> io::Result<Self> {
        // SAFETY: the name is NUL-terminated; a new descriptor is returned, or -1.
        let memory = own(unsafe { libc::memfd_create(c"eal-output".as_ptr(), libc::MFD_CLOEXEC) })?;
        let mut silence = Self { memory, saved: Vec::new() };
        flush_c_streams();
        for target in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: duplicates a descriptor number; fails cleanly if it is not open.
            let copy = own(unsafe { libc::fcntl(target, libc::F_DUPFD_CLOEXEC, 3) })?;
            silence.saved.push((target, copy));
            // SAFETY: both descriptors are open.
            if unsafe { libc::dup2(silence.memory.as_raw_fd(), target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(silence)
    }

    /// Ends the silence and returns the lines that were printed in it.
    pub(super) fn end(mut self) -> Vec<String> {
        self.restore();
        let mut text = vec![0_u8; 64 << 10];
        // SAFETY: the buffer is as long as said.
        let read = unsafe {
            libc::pread(self.memory.as_raw_fd(), text.as_mut_ptr().cast(), text.len(), 0)
        };
        text.truncate(usize::try_from(read).unwrap_or(0));
        String::from_utf8_lossy(&text).lines().map(|line| line.trim().to_owned()).collect()
    }

    fn restore(&mut self) {
        flush_c_streams();
        for (target, copy) in self.saved.drain(..) {
            // SAFETY: both descriptors are open.
            unsafe { libc::dup2(copy.as_raw_fd(), target) };
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.restore();
    }
}

fn own(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn flush_c_streams() {
    // SAFETY: a null pointer means every stream.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
