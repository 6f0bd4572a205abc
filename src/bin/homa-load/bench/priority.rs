//! Raised priority: on a shared machine others must not take a core away in the middle of a run.

use std::path::PathBuf;
use std::process::Command;

const NICE: i32 = -15;
/// The capability to raise priority (capability.h).
const CAP_SYS_NICE: u32 = 23;

/// A command that runs this program, at raised priority where that is allowed: in a session of its
/// own, since the scheduler groups processes by session and compares groups first.
pub(super) fn command() -> std::io::Result<Command> {
    let exe = std::env::current_exe()?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !may_raise(&status) || program("setsid").is_none() || program("nice").is_none() {
        return Ok(Command::new(exe));
    }
    let mut command = Command::new("setsid");
    command.args(["nice", "-n", &NICE.to_string()]).arg(exe);
    Ok(command)
}

/// Where `name` is in the search path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Raises the group of this session, if it is our own, and says what we run at.
pub(super) fn raise_group() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some((session, nice)) = session_and_nice(&stat) else { return "unknown".to_owned() };
    if session == i64::from(std::process::id()) && nice < 0 {
        // Without groups there is no such file.
        let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
    }
    let group = std::fs::read_to_string("/proc/self/autogroup").unwrap_or_default();
    match group.split_once(" nice ") {
        Some((_, group)) => format!("nice {nice}, that of the group {}", group.trim()),
        None => format!("nice {nice}"),
    }
}

fn may_raise(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities >> CAP_SYS_NICE & 1 == 1)
}

/// Fields 6 and 19 of `/proc/PID/stat` (proc(5)). The name in field 2 may contain anything.
fn session_and_nice(stat: &str) -> Option<(i64, i64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    field(6).zip(field(19))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_process_does_not_confuse() {
        let stat = "7 (a) b) R 18458 18458 12021 0 -1 4194304 119 0 0 0 0 0 0 0 20 -15 1 0 380152";
        assert_eq!(session_and_nice(stat), Some((12_021, -15)));
        assert_eq!(session_and_nice("7 (cut) R 1"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(session_and_nice(&own).is_some_and(|(_, nice)| (-20..20).contains(&nice)));
    }

    #[test]
    fn the_capability_is_one_bit() {
        assert!(may_raise("Name:\tx\nCapEff:\t0000000000800000\n"));
        assert!(!may_raise("CapEff:\t000001ffff7fffff\n"));
        assert!(!may_raise(""));
    }

    #[test]
    fn programs_are_found_in_the_search_path() {
        assert!(program("sh").is_some());
        assert!(program("no-such-program-anywhere").is_none());
    }
}
