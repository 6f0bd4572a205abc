#!/usr/bin/env bash
# Checks what shards share under every order of memory accesses that the language allows (loom).
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case "${1-}" in
    '') ;;
    -h | --help) echo "usage: loom.sh" && exit 0 ;;
    *) echo "usage: loom.sh" >&2 && exit 2 ;;
esac
cd "$ROOT"
# Other flags make other builds: they get a folder of their own, or everything would be built anew.
target=${CARGO_TARGET_DIR:-target}/loom
run_rust env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target" LOOM_MAX_PREEMPTIONS=3 \
    cargo test --locked --no-default-features --features dpdk --lib loom_ -- --test-threads=2
