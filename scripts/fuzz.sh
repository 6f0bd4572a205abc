#!/usr/bin/env bash
# Runs the fuzz targets.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: fuzz.sh [SECONDS [TARGET...]]

Fuzzes each target (wire, net, node; all by default) for SECONDS (60 by default), starting from the
inputs in fuzz/corpus. What is found new goes to fuzz/target/corpus and serves the next run; an input
that breaks something is left in fuzz/artifacts. Needs cargo-fuzz and a nightly toolchain:
    rustup toolchain install nightly --profile minimal && cargo install cargo-fuzz
Without them nothing is run, the reason is printed, and the exit code is 0. The inputs in fuzz/corpus
are run in any case, by the test fuzz_corpus.
TEXT
}

main() {
    local seconds=60 target targets
    case "${1-}" in
        -h | --help) usage && exit 0 ;;
        '') ;;
        *[!0-9]* | 0) usage >&2 && exit 2 ;;
        *) seconds=$1 ;;
    esac
    targets=("${@:2}")
    [[ ${#targets[@]} -gt 0 ]] || targets=(wire net node)
    for target in "${targets[@]}"; do
        if [[ ! -f $ROOT/fuzz/fuzz_targets/$target.rs ]]; then
            echo "$SCRIPT: no fuzz target '$target': use wire, net or node" >&2
            exit 2
        fi
    done
    if ! run_rust cargo fuzz --version >/dev/null 2>&1; then
        echo "fuzzing left out: cargo-fuzz is not installed"
        exit 0
    fi
    if ! run_rust cargo +nightly --version >/dev/null 2>&1; then
        echo "fuzzing left out: there is no nightly toolchain"
        exit 0
    fi
    cd "$ROOT/fuzz"
    for target in "${targets[@]}"; do
        printf '\n== fuzzing %s for %d s\n' "$target" "$seconds"
        mkdir -p "target/corpus/$target"
        run_rust cargo +nightly fuzz run "$target" "target/corpus/$target" "corpus/$target" -- \
            -max_total_time="$seconds" -max_len=8192 -print_final_stats=1 -verbosity=0
    done
}

main "$@"
