//! The inputs in `fuzz/corpus`, each given to its fuzz target once. Fuzzing itself needs more than
//! stable Rust has: `scripts/fuzz.sh`.

#[allow(unreachable_pub, reason = "it is a library of its own for the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// The files in the corpus of `target`, in order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str, run: fn(&[u8])) {
    let files = corpus(target);
    assert!(files.len() >= 8, "{} inputs for {target}", files.len());
    let failed: Vec<&PathBuf> = files
        .iter()
        .filter(|file| catch_unwind(|| run(&fs::read(file).unwrap())).is_err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn wire() {
    replay("wire", targets::wire::run);
}

#[test]
fn net() {
    replay("net", targets::net::run);
}

#[test]
fn node() {
    replay("node", targets::node::run);
}
