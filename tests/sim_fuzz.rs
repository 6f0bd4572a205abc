//! `homa-sim fuzz` as a program.
#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Output};

fn fuzz(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_homa-sim")).arg("fuzz").args(options).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn many_runs_are_summed_up() {
    let output = fuzz(&["--seeds", "100..400", "--jobs", "2"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("300 seeds in ") && text.contains(": 0 fail; "), "{text}");
}

/// One run twice: the same figures and the same story.
#[test]
fn one_run_is_told_and_repeats() {
    let tell = |name: &str| {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let output = fuzz(&["--seed", "12", "--trace", &file.display().to_string()]);
        assert!(output.status.success());
        (text(&output), std::fs::read_to_string(file).unwrap())
    };
    let (first, story) = tell("first.txt");
    assert_eq!((first.clone(), story.clone()), tell("second.txt"));
    assert!(first.contains("all rules hold") && first.contains("call 0: at "), "{first}");
    assert!(story.lines().any(|line| line.contains(" got from ") && line.contains(": DATA ")));
}

#[test]
fn bad_ranges_are_refused() {
    for (seeds, why) in [("5", "0..1000"), ("7..7", "has no seeds"), ("a..9", "not a range")] {
        let output = fuzz(&["--seeds", seeds]);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(why), "{errors}");
    }
    assert_eq!(fuzz(&["--shrink"]).status.code(), Some(2), "of which run?");
}
