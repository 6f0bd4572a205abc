#!/usr/bin/env bash
# Checks everything that can be checked without a NIC: form, lints, tests, documentation.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: test.sh

Runs all checks in this order and stops at the first that fails: set-up, scripts, manifests, form, lints, tests,
tests without DPDK, models of what shards share, examples in the documentation, documentation. Needs no NIC. Without root, the
tests that need it are left out, for most make network interfaces.
TEXT
}

# Tests that need root: they make network namespaces and interfaces, or become another user.
readonly ROOT_TESTS=(dpdk_kernel load_veth node_af_packet node_cluster node_privileges node_shards node_stop
    node_tap node_tools node_variants)
SUMMARY=()

# Runs a command and notes how long it took. Ends everything if it fails.
step() {
    local name=$1 began=$SECONDS status=0 command
    shift
    command=${*#run_rust}
    printf '\n== %s: %s\n' "$name" "${command# }"
    "$@" || status=$?
    if [[ $status -ne 0 ]]; then
        printf '\n%s: FAILED: %s (exit code %d)\n' "$SCRIPT" "$name" "$status" >&2
        printf 'to run it again: cd %q && %s\n' "$ROOT" "${command# }" >&2
        exit 1
    fi
    SUMMARY+=("$(printf 'ok  %4d s  %s' $((SECONDS - began)) "$name")")
}

check_scripts() {
    local script
    for script in scripts/*.sh .ci/run; do
        bash -n "$script" || return
    done
    if command -v shellcheck >/dev/null; then
        shellcheck --external-sources scripts/*.sh .ci/run
    else
        echo "shellcheck is not installed: syntax checked only"
    fi
}

# cargo nextest runs each test in a process of its own, which is faster; cargo test does as well.
runner() {
    if run_rust cargo nextest --version >/dev/null 2>&1; then
        echo "nextest run --no-fail-fast"
    else
        echo "test --no-fail-fast"
    fi
}

# What to test: everything, without the tests that need root if they would not have it.
targets() {
    local file name
    echo "--lib --bins --examples"
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        if [[ $(run_rust id -u) -eq 0 || " ${ROOT_TESTS[*]} " != *" $name "* ]]; then
            echo "--test $name"
        fi
    done
}

main() {
    local runner targets setup=(scripts/setup.sh)
    case "${1-}" in
        '') ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    cd "$ROOT"
    # Only root can install what some tests would merely like to have.
    if [[ $EUID -eq 0 ]]; then setup+=(--tests); fi
    step "set-up" "${setup[@]}"
    read -r -a runner < <(runner)
    read -r -a targets < <(targets | paste -s -d ' ')
    step "scripts" check_scripts
    step "manifests" scripts/manifests.sh
    step "form" run_rust cargo fmt --all --check
    step "lints" run_rust cargo clippy --locked --workspace --all-targets -- -D warnings
    step "lints without DPDK" \
        run_rust cargo clippy --locked --no-default-features --all-targets -- -D warnings
    step "tests" run_rust cargo "${runner[@]}" --locked --workspace "${targets[@]}"
    step "build without DPDK" run_rust cargo build --locked --no-default-features
    step "tests without DPDK" \
        run_rust cargo "${runner[@]}" --locked --no-default-features "${targets[@]}"
    step "models of what shards share" scripts/loom.sh
    step "examples in the documentation" run_rust cargo test --locked --workspace --doc
    step "documentation" \
        run_rust env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps
    printf '\n'
    printf '%s\n' "${SUMMARY[@]}"
    [[ $(run_rust id -u) -eq 0 ]] || echo "left out, because they need root: ${ROOT_TESTS[*]}"
    echo "all checks passed in $SECONDS s"
}

main "$@"
