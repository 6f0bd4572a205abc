//! The check of the Kubernetes manifests finds what is wrong with them.
#![cfg(all(feature = "dpdk", feature = "cli"))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A copy of the manifests, in which `from` in `file` is replaced by `to`.
struct Copy(PathBuf);

impl Copy {
    fn new(number: usize, (file, from, to): (&str, &str, &str)) -> Self {
        let name = format!("homa-manifests-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        for name in ["agents.yaml", "coordinator.yaml"] {
            let path = Path::new(ROOT).join("docker/k8s").join(name);
            let mut text = std::fs::read_to_string(path).expect("a manifest");
            if name == file {
                assert!(text.contains(from), "{name} has {from:?}");
                text = text.replacen(from, to, 1);
            }
            std::fs::write(directory.join(name), text).expect("a file");
        }
        Self(directory)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn check(directory: &Path) -> Output {
    let script = Path::new(ROOT).join("scripts/manifests.sh");
    Command::new(script).arg(directory).output().expect("the script runs")
}

#[test]
fn broken_manifests_are_found() {
    let whole = check(&Path::new(ROOT).join("docker/k8s"));
    let said = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(whole.status.success(), "{said}{}", String::from_utf8_lossy(&whole.stderr));
    if said.contains("manifests left out") {
        println!("not tested: {said}");
        return;
    }
    let broken = [
        ("agents.yaml", "completionMode: Indexed", "completionmode: Indexed", "completionmode"),
        ("agents.yaml", "parallelism: 4", "parallelism: many", "many"),
        ("agents.yaml", "drop: [ALL]", "drop: ALL", "ALL"),
        ("coordinator.yaml", "value: \"4\"", "value: \"3\"", "waits for 3 agents, and there are 4"),
        ("coordinator.yaml", "port: 7146", "port: 7000", "look for port 7146"),
        ("agents.yaml", "hugepages-2Mi: 512Mi", "hugepages-2Mi: 256Mi", "hugepages-2Mi: requests"),
    ];
    for (number, (file, from, to, says)) in broken.into_iter().enumerate() {
        let copy = Copy::new(number, (file, from, to));
        let output = check(&copy.0);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{from} as {to}: {said}");
        assert!(said.contains(says), "{from} as {to}: {said}");
    }
}
