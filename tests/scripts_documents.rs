//! Whether documents and scripts keep their word: code in the README is compiled, paths lead somewhere,
//! port strings are understood, and scripts refuse what they must.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "docs/ARCHITECTURE.md",
    "docs/INTEROP.md",
    "docs/LOAD.md",
    "docs/PERFORMANCE.md",
];
const SCRIPTS: [&str; 10] = [
    "setup.sh",
    "hugepages.sh",
    "bind.sh",
    "run.sh",
    "test.sh",
    "fuzz.sh",
    "cluster.sh",
    "cluster-docker.sh",
    "docker-base.sh",
    "manifests.sh",
];

fn read(path: &str) -> String {
    let full = Path::new(ROOT).join(path);
    fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// What stands between pairs of backticks outside of code blocks.
fn quoted(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// As an example in the documentation of the library: `cargo test --doc`.
#[test]
fn code_in_the_readme_is_compiled() {
    let readme = read("README.md");
    let fences: Vec<&str> = readme.lines().filter(|line| line.starts_with("```rust")).collect();
    assert_eq!(fences, ["```rust,no_run"]);
    assert!(readme.contains("\nfn main()"), "a whole program");
    assert!(read("src/lib.rs").contains("#[doc = include_str!(\"../README.md\")]"));
    assert!(read("scripts/test.sh").contains("cargo test --locked --workspace --doc"));
}

/// `test.sh` leaves out what would fail without root, and nothing else.
#[test]
fn tests_that_need_root_are_known() {
    let script = read("scripts/test.sh");
    let (_, rest) = script.split_once("ROOT_TESTS=(").expect("a list");
    let listed: Vec<&str> = rest.split(')').next().unwrap().split_whitespace().collect();
    let signs = ["Namespace::new(", "libc::unshare(", "--wire veth --workload"];
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(Path::new(ROOT).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            // This file names the signs.
            let is_this = name == "scripts_documents";
            if !is_this && signs.iter().any(|sign| text.contains(sign)) {
                found.push(name);
            }
        }
    }
    found.sort();
    assert_eq!(found, listed);
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let directory = Path::new(ROOT).join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = directory.join(link.split('#').next().unwrap());
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            assert!(path.exists(), "{document}: the link {link} leads nowhere");
        }
    }
    assert!(links >= 8, "only {links} links found");
}

#[test]
fn anchors_of_the_readme_are_headings() {
    let readme = read("README.md");
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let headings: Vec<String> =
        readme.lines().filter_map(|line| line.strip_prefix("## ")).map(slug).collect();
    let anchors: Vec<&str> =
        readme.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(!anchors.is_empty());
    for anchor in anchors {
        assert!(headings.iter().any(|heading| heading == anchor), "#{anchor} in {headings:?}");
    }
}

#[test]
fn paths_in_the_documents_exist() {
    let mut paths = 0;
    for document in DOCUMENTS {
        for quoted in quoted(&read(document)) {
            let is_path =
                quoted.ends_with(".rs") || quoted.ends_with('/') || quoted.ends_with(".sh");
            if !is_path || quoted.contains(['*', ' ', ':']) {
                continue;
            }
            paths += 1;
            let exists = ["", "src", "scripts"]
                .iter()
                .any(|directory| Path::new(ROOT).join(directory).join(&quoted).exists());
            assert!(exists, "{document}: there is no {quoted}");
        }
    }
    assert!(paths >= 30, "only {paths} paths found");
}

#[cfg(feature = "dpdk")]
#[test]
fn port_strings_of_the_readme_are_understood() {
    let readme = read("README.md");
    let (_, ports) = readme.split_once("\n## Ports\n").unwrap();
    let (ports, _) = ports.split_once("\n## ").unwrap();
    let rows: Vec<&str> = ports.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() >= 9, "{rows:?}");
    let of_the_table = rows.iter().map(|row| row.split('`').nth(1).unwrap());
    let words: Vec<&str> = readme.split_whitespace().collect();
    let of_commands = words.windows(2).filter(|pair| pair[0] == "--device").map(|pair| pair[1]);
    for text in of_the_table.chain(of_commands) {
        let spec = text.parse::<homa::dpdk::DeviceSpec>();
        assert!(spec.is_ok(), "{text}: {spec:?}");
    }
}

#[test]
fn features_of_the_readme_are_those_of_the_crate() {
    let manifest = read("Cargo.toml");
    let (_, features) = manifest.split_once("[features]\n").unwrap();
    let (features, _) = features.split_once("\n[").unwrap();
    let names = features.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let readme = read("README.md");
    for name in names.filter(|name| *name != "default" && !name.starts_with('#')) {
        assert!(readme.contains(&format!("| `{name}` ")), "the README does not know {name}");
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(ROOT).join("scripts").join(name));
    command.current_dir("/");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn scripts_explain_themselves_and_refuse_nonsense() {
    for name in SCRIPTS {
        let help = script(name).arg("--help").output().unwrap();
        assert!(help.status.success(), "{name} --help: {}", text(&help));
        assert!(text(&help).starts_with(&format!("usage: {name}")), "{}", text(&help));
        let nonsense = script(name).arg("--nonsense").output().unwrap();
        assert_eq!(nonsense.status.code(), Some(2), "{name}: {}", text(&nonsense));
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, arguments) in [
        ("run.sh", &["--seconds"][..]),
        ("run.sh", &["--seconds", "0"]),
        ("run.sh", &["--seconds", "1.5"]),
        ("run.sh", &["--seconds", "601"]),
        ("cluster.sh", &["--hosts", "1"]),
        ("cluster.sh", &["--hosts", "17"]),
        ("cluster.sh", &["--seconds", "0"]),
        ("cluster.sh", &["--binary", "/nowhere/homa-load"]),
        ("cluster.sh", &["--"]),
        ("cluster-docker.sh", &["--seconds", "601"]),
        ("docker-base.sh", &["--mirror"]),
        ("manifests.sh", &["a", "b"]),
        ("hugepages.sh", &["many"]),
        ("hugepages.sh", &["-1"]),
        ("hugepages.sh", &["1", "2"]),
        ("bind.sh", &[]),
        ("bind.sh", &["--release"]),
    ] {
        let output = script(name).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {}", text(&output));
    }
}

/// A directory that looks like sysfs to `bind.sh`, and an `ip` that knows one default route.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("homa-{name}-{}", std::process::id()));
        for directory in ["bus/pci/devices", "bus/pci/drivers", "class/net", "bin"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let ip = root.join("bin/ip");
        fs::write(&ip, "#!/bin/sh\necho default via 10.0.0.254 dev route0 proto dhcp\n").unwrap();
        fs::set_permissions(&ip, fs::Permissions::from_mode(0o755)).unwrap();
        Self { root }
    }

    fn device(&self, address: &str, class: &str, driver: &str, interface: &str, flags: &str) {
        let device = self.root.join("bus/pci/devices").join(address);
        let net = self.root.join("class/net").join(interface);
        fs::create_dir_all(device.join("net").join(interface)).unwrap();
        fs::create_dir_all(&net).unwrap();
        fs::write(net.join("flags"), flags).unwrap();
        fs::write(device.join("class"), class).unwrap();
        fs::write(device.join("driver_override"), "").unwrap();
        let of_driver = self.root.join("bus/pci/drivers").join(driver);
        fs::create_dir_all(&of_driver).unwrap();
        symlink(of_driver, device.join("driver")).unwrap();
    }

    /// Puts a device into an IOMMU group.
    fn group(&self, address: &str, group: &str) {
        let device = self.root.join("bus/pci/devices").join(address);
        let members = self.root.join("kernel/iommu_groups").join(group).join("devices");
        fs::create_dir_all(&members).unwrap();
        symlink(members.parent().unwrap(), device.join("iommu_group")).unwrap();
        symlink(device, members.join(address)).unwrap();
    }

    fn bind(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.root.join("bin").display());
        let mut command = script("bind.sh");
        command.args(arguments).env("HOMA_SYSFS", &self.root).env("PATH", path);
        command.output().unwrap()
    }

    /// What was written about a device's driver.
    fn choice(&self, address: &str) -> String {
        let file = self.root.join("bus/pci/devices").join(address).join("driver_override");
        fs::read_to_string(file).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const NETWORK: &str = "0x020000";
const UP: &str = "0x1003";
const DOWN: &str = "0x1002";

#[test]
fn devices_that_are_needed_are_not_taken_from_the_kernel() {
    let machine = Machine::new("bind-refused");
    machine.device("0000:01:00.0", NETWORK, "ice", "route0", DOWN);
    machine.device("0000:02:00.0", NETWORK, "ice", "up0", UP);
    machine.device("0000:03:00.0", NETWORK, "ice", "part0", DOWN);
    machine.device("0000:04:00.0", NETWORK, "mlx5_core", "mlx0", DOWN);
    machine.device("0000:05:00.0", "0x010000", "nvme", "none0", DOWN);
    machine.device("0000:06:00.0", NETWORK, "ice", "bare0", DOWN);
    machine.device("0000:07:00.0", NETWORK, "ice", "near0", DOWN);
    machine.device("0000:07:00.1", NETWORK, "ice", "near1", DOWN);
    symlink("/", machine.root.join("class/net/part0/upper_bond0")).unwrap();
    machine.group("0000:01:00.0", "1");
    machine.group("0000:07:00.0", "7");
    machine.group("0000:07:00.1", "7");
    for (address, reason) in [
        ("01:00.0", "route0 carries the default route"),
        ("0000:02:00.0", "up0 is up"),
        ("0000:03:00.0", "part0 is part of bond0"),
        ("0000:04:00.0", "use pci:0000:04:00.0 as it is"),
        ("0000:05:00.0", "is not a network device"),
        ("0000:06:00.0", "has no IOMMU group"),
        ("0000:07:00.0", "the kernel uses: 0000:07:00.1 (ice)"),
        ("0000:99:00.0", "there is no PCI device"),
        ("eth0", "is not a PCI address"),
    ] {
        let output = machine.bind(&[address]);
        assert_eq!(output.status.code(), Some(1), "{address}: {}", text(&output));
        assert!(text(&output).contains(reason), "{address}: {}", text(&output));
    }
    for device in fs::read_dir(machine.root.join("bus/pci/devices")).unwrap() {
        let address = device.unwrap().file_name().into_string().unwrap();
        assert_eq!(machine.choice(&address), "", "{address} was touched");
    }
}

#[test]
fn a_device_that_does_not_take_the_driver_is_given_back() {
    let machine = Machine::new("bind-tried");
    machine.device("0000:3b:00.0", NETWORK, "ice", "free0", DOWN);
    machine.group("0000:3b:00.0", "1");
    fs::create_dir_all(machine.root.join("bus/pci/drivers/vfio-pci")).unwrap();
    // A plain file takes the address and does nothing: the probing fails.
    let output = machine.bind(&["3b:00.0"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("could not be bound to vfio-pci"), "{}", text(&output));
    assert_eq!(machine.choice("0000:3b:00.0"), "\n", "the choice is open again");
    let written = |file: &str| fs::read_to_string(machine.root.join(file)).unwrap();
    assert_eq!(written("bus/pci/drivers/ice/unbind"), "0000:3b:00.0\n");
    assert_eq!(written("bus/pci/drivers_probe"), "0000:3b:00.0\n");
}

#[test]
fn the_status_names_every_network_device() {
    let machine = Machine::new("bind-status");
    machine.device("0000:01:00.0", NETWORK, "ice", "route0", UP);
    machine.device("0000:02:00.0", NETWORK, "ice", "free0", DOWN);
    machine.device("0000:05:00.0", "0x010000", "nvme", "none0", DOWN);
    machine.group("0000:02:00.0", "12");
    let output = machine.bind(&["--status"]);
    assert!(output.status.success(), "{}", text(&output));
    let text = text(&output);
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(rows[1][..5], ["0000:01:00.0", "ice", "-", "route0", "no:"]);
    assert_eq!(rows[2], ["0000:02:00.0", "ice", "12", "free0", "yes"]);
}
