//! What every program of this package can say about its own command line, and how it logs.

use std::fmt::Display;
use std::io::Write;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::OnceLock;

use clap::Command;
use clap_complete::Shell;
use env_logger::{Builder, Env};

/// How a program logs to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// An object of JSON on each line: time, level, target, message
    Json,
}

/// The format of this program's log, once it has begun.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Begins to log, as `RUST_LOG` says; warnings and errors without it. Once in the life of a program.
pub fn start_log(format: LogFormat) {
    let format = *FORMAT.get_or_init(|| format);
    let mut builder = Builder::from_env(Env::default().default_filter_or("warn"));
    if format == LogFormat::Json {
        builder.format(|out, record| {
            let line = json_line(
                &out.timestamp_millis().to_string(),
                record.level().as_str(),
                record.target(),
                &record.args().to_string(),
            );
            writeln!(out, "{line}")
        });
    }
    builder.init();
}

/// A line of the log as JSON.
fn json_line(time: &str, level: &str, target: &str, message: &str) -> String {
    serde_json::json!({ "time": time, "level": level, "target": target, "message": message })
        .to_string()
}

/// Reads an option that is a whole number within `range`, and says so if it is not.
pub fn whole<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!("a whole number from {} to {} is needed", range.start(), range.end())
        })
    }
}

/// What a shell says of a program that a closed pipe has ended: 128 and the number of SIGPIPE.
const NOBODY_READS: i32 = 141;

/// Has the program end quietly when nobody reads its standard output any more, as in `... | head`, and with
/// an error when that takes no more, as on a full disk. For what is printed with `print!` and `println!`.
pub fn end_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        match text.strip_prefix("failed printing to stdout: ") {
            Some(reason) if reason.contains("Broken pipe") => std::process::exit(NOBODY_READS),
            Some(reason) => {
                eprintln!("error: standard output: {reason}");
                std::process::exit(1);
            }
            None => usual(panic),
        }
    }));
}

/// An error that ends the program, on standard error: `error: ` and the text, or as an object of JSON if
/// the log is.
pub fn show_error(program: &str, error: &str) {
    match FORMAT.get().copied().unwrap_or_default() {
        LogFormat::Text => eprintln!("error: {error}"),
        LogFormat::Json => {
            let time = std::time::SystemTime::now();
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            eprintln!("{}", json_line(&rfc3339(since.as_millis()), "ERROR", program, error));
        }
    }
}

/// Milliseconds since 1970 as the logger writes them.
fn rfc3339(unix_ms: u128) -> String {
    let (days, ms) = ((unix_ms / 86_400_000) as i64, unix_ms % 86_400_000);
    // Years of 365.2425 days that begin in March, counted from the year 0.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year_of_era, month + 3),
        _ => (era * 400 + year_of_era + 1, month - 9),
    };
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The script by which a shell completes `command`.
pub fn completions(command: &mut Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of `command`, or of one of its subcommands, in the language of man(7).
///
/// # Errors
/// Names the subcommands if there is none of this name.
pub fn manual(command: &Command, subcommand: Option<&str>) -> Result<String, String> {
    let mut command = command.clone();
    command.build();
    let page = match subcommand {
        None => command,
        Some(name) => {
            let found = command.find_subcommand(name).filter(|found| !found.is_hide_set());
            let found = found.ok_or_else(|| {
                let known: Vec<&str> = command
                    .get_subcommands()
                    .filter(|known| !known.is_hide_set())
                    .map(Command::get_name)
                    .collect();
                format!("no subcommand '{name}': there are {}", known.join(", "))
            })?;
            let title = format!("{}-{name}", command.get_name());
            found.clone().name(title.clone()).display_name(title)
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        let run = Command::new("run").about("Runs it").arg(Arg::new("speed").long("speed"));
        Command::new("tool")
            .about("A tool")
            .subcommand(run)
            .subcommand(Command::new("x").hide(true))
    }

    #[test]
    fn completions_know_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(&mut command(), shell);
            assert!(script.contains("run") && script.contains("speed"), "{shell}: {script}");
        }
    }

    #[test]
    fn pages_of_the_program_and_its_parts() {
        let page = |name| manual(&command(), name);
        let whole = page(None).unwrap();
        assert!(whole.contains(".TH tool 1") && whole.contains("Runs it"), "{whole}");
        let part = page(Some("run")).unwrap();
        assert!(part.contains("tool\\-run") && part.contains("speed"), "{part}");
        let error = page(Some("walk")).unwrap_err();
        assert_eq!(error, "no subcommand 'walk': there are run, help");
        assert!(page(Some("x")).is_err(), "hidden");
    }

    #[test]
    fn whole_numbers_have_bounds() {
        let vlan = whole::<u16>(1..=4094);
        assert_eq!((vlan("1"), vlan("4094")), (Ok(1), Ok(4094)));
        for wrong in ["0", "4095", "70000", "-1", "x", "", "1.5", " 7"] {
            let error = vlan(wrong).unwrap_err();
            assert_eq!(error, "a whole number from 1 to 4094 is needed", "{wrong:?}");
        }
    }

    #[test]
    fn lines_of_json_are_escaped_and_times_are_right() {
        let line = json_line("t", "WARN", "homa", "a \"quoted\"\nline");
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a \"quoted\"\nline");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
    }
}
