#!/usr/bin/env bash
# Builds homa-load and shows it at work: two processes, two runs, two reports.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: run.sh [--seconds N]

Builds homa-load and runs a server and a client, two processes joined by shared memory (memif):
first with messages of workload W4, then with one RPC of 100 bytes at a time. Needs no NIC and no
privilege. As root it reserves the hugepages it needs while it runs; without hugepages it does
without.

  --seconds N   measure N seconds per run, 1 to 600 (5)
TEXT
}

# Two processes of 256 MB, in pages of 2 MB.
readonly PAGES=256
readonly POOL=/sys/kernel/mm/hugepages/hugepages-2048kB
SECONDS_PER_RUN=5
PAGES_ADDED=0

parse_arguments() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
            --seconds)
                [[ ${2-} =~ ^[1-9][0-9]{0,2}$ && $2 -le 600 ]] ||
                    { echo "$SCRIPT: --seconds takes a whole number from 1 to 600" >&2 && exit 2; }
                SECONDS_PER_RUN=$2
                shift 2
                ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
    done
}

build() {
    (cd "$ROOT" && run_rust cargo build --release --locked --bin homa-load)
}

# Prints the path of the program that was built, wherever cargo has put it.
binary() {
    local directory
    directory=$(cd "$ROOT" && run_rust cargo metadata --format-version 1 --no-deps --locked |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    echo "$directory/release/homa-load"
}

pages() {
    cat "$POOL/$1_hugepages" 2>/dev/null || echo 0
}

# Sees to it that enough hugepages are free. Fails if they are not.
reserve_hugepages() {
    local total free
    total=$(pages nr)
    free=$(pages free)
    [[ $free -lt $PAGES ]] || return 0
    [[ $EUID -eq 0 ]] || return 1
    "$ROOT/scripts/hugepages.sh" $((total + PAGES - free)) >/dev/null 2>&1 || true
    PAGES_ADDED=$(($(pages nr) - total))
    [[ $(pages free) -ge $PAGES ]]
}

restore_hugepages() {
    [[ $PAGES_ADDED -eq 0 ]] || "$ROOT/scripts/hugepages.sh" $(($(pages nr) - PAGES_ADDED)) >/dev/null
    PAGES_ADDED=0
}

main() {
    local program memory=()
    parse_arguments "$@"
    "$ROOT/scripts/setup.sh"
    build
    program=$(binary)
    trap restore_hugepages EXIT
    reserve_hugepages || memory=(--no-huge)
    set -- --duration "${SECONDS_PER_RUN}s" "${memory[@]}"
    echo
    echo "== Workload W4, 8 RPCs outstanding"
    "$program" local --workload w4 "$@"
    echo
    echo "== RPCs of 100 bytes, one at a time"
    "$program" local --workload 100 --outstanding 1 "$@"
}

main "$@"
