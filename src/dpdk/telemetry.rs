//! Commands of our own in DPDK's telemetry, which tools ask over a socket in the runtime directory.

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

use super::error::Error;

/// Gives what a command answers for its parameters, which are empty without any: names and values.
/// `None` if the parameters are wrong. Called on DPDK's thread.
type Source = Box<dyn Fn(&str) -> Option<Vec<(String, u64)>> + Send>;

/// One command. DPDK cannot forget a command, so that they stay, and their sources come and go.
struct Command {
    name: CString,
    source: Option<Source>,
}

static COMMANDS: Mutex<Vec<Command>> = Mutex::new(Vec::new());

/// The longest name of a value that DPDK takes, and the most values in an answer.
const NAME_CHARS_MAX: usize = 63;
const VALUES_MAX: usize = 256;

/// A command of telemetry; while it lives, its source is asked.
#[derive(Debug)]
pub struct TelemetryCommand {
    name: CString,
}

impl TelemetryCommand {
    /// Answers `name`, such as `/homa/stats`, with a dictionary of what `source` gives for the parameters
    /// of the request: what follows the name after a comma. Names of values may have letters, digits,
    /// `_` and `/`; others, and what is more than 256, are left out. A command that exists already gets
    /// the new source.
    ///
    /// Nobody can ask unless DPDK was started with [`super::EalConfig::telemetry`].
    ///
    /// # Errors
    /// DPDK does not take the command: its name must begin with `/`.
    pub fn register(
        name: &str,
        help: &str,
        source: impl Fn(&str) -> Option<Vec<(String, u64)>> + Send + 'static,
    ) -> Result<Self, Error> {
        let c_string = |text: &str| {
            CString::new(text)
                .map_err(|_| Error::Config(format!("telemetry: {text:?} contains a NUL character")))
        };
        let (c_name, help) = (c_string(name)?, c_string(help)?);
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        let source: Option<Source> = Some(Box::new(source));
        match commands.iter_mut().find(|command| command.name == c_name) {
            Some(known) => known.source = source,
            None => {
                // SAFETY: both texts end with NUL and are copied by DPDK, whose version of the function
                // exists before and after EAL starts; the callback is a function of this program.
                let rc = unsafe {
                    sys::rte_telemetry_register_cmd(c_name.as_ptr(), Some(answer), help.as_ptr())
                };
                if rc != 0 {
                    return Err(Error::Config(format!(
                        "telemetry: DPDK does not take the command \"{name}\" (error {rc}); it must \
                         begin with / and be short"
                    )));
                }
                commands.push(Command { name: c_name.clone(), source });
            }
        }
        Ok(Self { name: c_name })
    }
}

impl Drop for TelemetryCommand {
    fn drop(&mut self) {
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(command) = commands.iter_mut().find(|command| command.name == self.name) {
            command.source = None;
        }
    }
}

/// Called by DPDK for every command of ours.
extern "C" fn answer(
    command: *const c_char,
    parameters: *const c_char,
    data: *mut sys::rte_tel_data,
) -> c_int {
    if command.is_null() || data.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: DPDK gives the name of the command as a text that ends with NUL and outlives the call.
    let command = unsafe { CStr::from_ptr(command) };
    let parameters = if parameters.is_null() {
        ""
    } else {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(parameters) }.to_str().unwrap_or("?")
    };
    // Nothing may unwind into C.
    let values = catch_unwind(AssertUnwindSafe(|| {
        let commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = commands.iter().find(|known| known.name.as_c_str() == command)?;
        match &found.source {
            Some(source) => source(parameters),
            None => Some(Vec::new()),
        }
    }));
    let Ok(Some(values)) = values else { return -libc::EINVAL };
    // SAFETY: DPDK gave the structure for this call to be filled.
    unsafe { sys::rte_tel_data_start_dict(data) };
    for (name, value) in values.iter().filter(|value| is_name(&value.0)).take(VALUES_MAX) {
        let Ok(name) = CString::new(name.as_str()) else { continue };
        // SAFETY: the structure is a dictionary since above; the name is copied.
        unsafe { sys::homa_telemetry_add(data, name.as_ptr(), *value) };
    }
    0
}

fn is_name(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= NAME_CHARS_MAX;
    fits && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dpdk_would_refuse() {
        for name in ["rx_packets", "0/client_done"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "naïve", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
