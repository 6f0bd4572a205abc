//! Finds libdpdk with pkg-config, compiles the C shim with its flags and generates the bindings.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// The libraries whose symbols the shim and the bindings name. `rte_log` exists from 23.11 on, so
/// the list is matched against what pkg-config offers.
const LIBRARIES: [&str; 7] =
    ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "rte_log", "rte_telemetry"];

/// The one driver that is called directly (`rte_eth_from_rings`). Drivers are plugins, so
/// pkg-config does not list it.
const RING_DRIVER: &str = "rte_net_ring";

/// What of the headers becomes Rust. The shim covers everything else.
const FUNCTIONS: &str = "homa_.*\
    |rte_eal_(init|cleanup|get_runtime_dir)|rte_strerror\
    |rte_telemetry_register_cmd|rte_tel_data_start_dict\
    |rte_get_tsc_hz|rte_thread_(un)?register\
    |rte_pktmbuf_(pool_create_by_ops|free_bulk|copy)|rte_mempool_(free|avail_count|in_use_count)\
    |rte_ring_create|rte_eth_from_rings\
    |rte_eth_dev_(start|stop|close|socket_id|get_port_by_name|adjust_nb_rx_tx_desc)\
    |rte_eth_dev_default_mac_addr_set|rte_eth_macaddr_get\
    |rte_eth_(promiscuous|allmulticast)_enable|rte_eth_tx_done_cleanup\
    |rte_eth_xstats_get|rte_eth_xstats_get_names";
const TYPES: &str = "homa_.*|rte_ether_addr|rte_eth_xstat|rte_eth_xstat_name\
    |rte_mbuf_ext_shared_info";
const VARIABLES: &str = "HOMA_.*";
/// Declared in `lib.rs` as opaque types: passed by pointer only, their layout differs between
/// releases and stays C's business.
const OPAQUE: &str = "rte_mbuf|rte_mempool|rte_ring";

fn main() {
    for file in ["build.rs", "src/shim.h", "src/shim.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // The flags are taken literally: `-include rte_config.h` and `-march` decide structure
    // layouts and which inline functions compile.
    let compile_flags = pkg_config("--cflags");
    let link_flags = pkg_config("--libs");
    if let Err(reason) = clang_sys::load() {
        fail(&format!(
            "libclang, which generates the DPDK bindings, cannot be loaded: {reason}. \
             Install it (Debian, Ubuntu: apt install libclang-dev) or set LIBCLANG_PATH"
        ));
    }
    compile_shim(&compile_flags);
    generate_bindings(&compile_flags);
    link(&link_flags);
}

fn pkg_config(query: &str) -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output =
        Command::new(&tool).args([query, "libdpdk >= 22.11"]).output().unwrap_or_else(|error| {
            fail(&format!(
                "cannot run `{tool}`: {error}. Install it (Debian, Ubuntu: apt install pkg-config)"
            ))
        });
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let because = if said.trim().is_empty() { "" } else { ": " };
        fail(&format!(
            "pkg-config does not know libdpdk 22.11 or later{because}{}. Install it (Debian, Ubuntu: \
             apt install libdpdk-dev dpdk), point PKG_CONFIG_PATH at your own build, or build \
             without DPDK: cargo build --no-default-features",
            said.trim()
        ));
    }
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn compile_shim(compile_flags: &[String]) {
    let mut build = cc::Build::new();
    for flag in compile_flags {
        build.flag(flag);
    }
    // One shim call per packet is on the hot path, also in debug builds. EAL is linked, never
    // loaded later, so its thread-local lcore id can be read without a call.
    build
        .file("src/shim.c")
        .opt_level(3)
        .flag("-ftls-model=initial-exec")
        .define("ALLOW_EXPERIMENTAL_API", None)
        .flag_if_supported("-Wno-deprecated-declarations")
        .compile("homa_dpdk_shim");
}

fn generate_bindings(compile_flags: &[String]) {
    let bindings = bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(compile_flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(VARIABLES)
        .blocklist_type(OPAQUE)
        .use_core()
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .layout_tests(true)
        .generate_comments(false)
        .rust_target(bindgen::RustTarget::stable(88, 0).unwrap_or_default())
        .generate()
        .unwrap_or_else(|error| {
            fail(&format!("bindgen cannot read the DPDK headers: {error}"));
        });
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_else(|| fail("OUT_DIR is not set")));
    if let Err(error) = bindings.write_to_file(out.join("bindings.rs")) {
        fail(&format!("cannot write the bindings to {}: {error}", out.display()));
    }
}

fn link(link_flags: &[String]) {
    for flag in link_flags {
        if let Some(directory) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={directory}");
        } else if let Some(name) = flag.strip_prefix("-l")
            && LIBRARIES.contains(&name)
        {
            println!("cargo::rustc-link-lib=dylib={name}");
        }
    }
    println!("cargo::rustc-link-lib=dylib={RING_DRIVER}");
}

/// Ends the build with one readable line instead of a panic message.
fn fail(message: &str) -> ! {
    // Cargo shows one line of an error.
    let message = message.replace('\n', " ");
    println!("cargo::error={message}");
    eprintln!("error: {message}");
    exit(1);
}
