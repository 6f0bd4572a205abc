//! Nothing to generate here: `dpdk-sys` owns the bindings.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
