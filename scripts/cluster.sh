#!/usr/bin/env bash
# A cluster of hosts on one machine: network namespaces on a bridge, an agent of homa-load in each.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: cluster.sh [--hosts N] [--seconds N] [--binary FILE] [-- LOAD...]

Makes N hosts (4), each a network namespace with one interface on a common bridge, and runs on them
first workload W3 from all to all, then an incast of all others to one; after "--" stands another load
instead, as options of homa-load coordinator. Everything it makes is gone at the end. Needs root.

  --hosts N      2 to 16
  --seconds N    measure N seconds per run, 1 to 600 (5)
  --binary FILE  this homa-load, instead of one built here

The hosts share the cores of this machine: this shows that it works, not how fast it is.
TEXT
}

HOSTS=4
SECONDS_PER_RUN=5
BINARY=
LOAD=()
# Names of interfaces may have 15 characters.
readonly NAME=hc$$
AGENTS=()

wrong() {
    echo "$SCRIPT: $*" >&2
    exit 2
}

parse_arguments() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
            --hosts)
                [[ ${2-} =~ ^[1-9][0-9]?$ && $2 -ge 2 && $2 -le 16 ]] ||
                    wrong "--hosts takes a whole number from 2 to 16"
                HOSTS=$2
                shift 2
                ;;
            --seconds)
                [[ ${2-} =~ ^[1-9][0-9]{0,2}$ && $2 -le 600 ]] ||
                    wrong "--seconds takes a whole number from 1 to 600"
                SECONDS_PER_RUN=$2
                shift 2
                ;;
            --binary)
                [[ -x ${2-} ]] || wrong "--binary takes a program"
                BINARY=$2
                shift 2
                ;;
            --)
                LOAD=("${@:2}")
                [[ ${#LOAD[@]} -gt 0 ]] || wrong "no load after --"
                return
                ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
    done
}

# Whatever happens, nothing stays behind.
clean_up() {
    local pid host
    for pid in "${AGENTS[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    for host in $(seq 0 $((HOSTS - 1))); do
        ip netns delete "$NAME-$host" 2>/dev/null || true
    done
    ip netns delete "$NAME-sw" 2>/dev/null || true
}

in_host() {
    ip netns exec "$NAME-$1" "${@:2}"
}

# A host: one interface on the bridge. The kernel's address on it is for the control connection alone;
# the address for Homa is not the kernel's, and what is not for it the kernel must not pass on.
make_host() {
    local host=$1
    ip netns add "$NAME-$host"
    # shellcheck disable=SC2016 # The shell in there expands it.
    in_host "$host" sh -c 'f=/proc/sys/net; echo 0 >$f/ipv4/ip_forward
        for i in all default; do [ ! -e $f/ipv6/conf/$i ] || echo 1 >$f/ipv6/conf/$i/disable_ipv6; done'
    ip link add eth0 netns "$NAME-$host" type veth peer name "port$host" netns "$NAME-sw"
    in_host sw ip link set "port$host" master br0 up
    in_host "$host" ip address add "10.146.1.$((host + 1))/24" dev eth0
    in_host "$host" ip link set eth0 up
}

make_network() {
    local host
    ip netns add "$NAME-sw"
    in_host sw ip link add br0 type bridge
    in_host sw ip link set br0 up
    in_host sw ip address add 10.146.1.254/24 dev br0
    for host in $(seq 0 $((HOSTS - 1))); do
        make_host "$host"
    done
}

# Starts an agent on each host and runs a load on all of them.
run_load() {
    local host core cores status=0
    cores=$(nproc)
    AGENTS=()
    for host in $(seq 0 $((HOSTS - 1))); do
        core=$((host % cores))
        in_host "$host" "$BINARY" agent --coordinator 10.146.1.254:7146 --name "n$host" --rank "$host" \
            --device af_packet:eth0 --ip "10.146.0.$((host + 1))/24" --cores "$core" --idle sleep \
            --no-huge --timeout 5s >/dev/null &
        AGENTS+=($!)
    done
    in_host sw "$BINARY" coordinator --listen 10.146.1.254:7146 --agents "$HOSTS" "$@" || status=$?
    for host in "${AGENTS[@]}"; do
        wait "$host" || status=1
    done
    AGENTS=()
    return "$status"
}

main() {
    parse_arguments "$@"
    [[ $EUID -eq 0 ]] || die "only root can make network namespaces: sudo $0"
    if [[ -z $BINARY ]]; then
        cd "$ROOT"
        run_rust cargo build --release --locked --bin homa-load
        BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/release/homa-load
    fi
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    make_network
    if [[ ${#LOAD[@]} -gt 0 ]]; then
        run_load "${LOAD[@]}"
        return
    fi
    printf '\n== W3, all to all\n'
    run_load --pattern all-to-all --workload w3 --outstanding 8 --duration "${SECONDS_PER_RUN}s"
    printf '\n== W3, %d:1 incast\n' "$((HOSTS - 1))"
    run_load --pattern incast --workload w3 --outstanding 8 --duration "${SECONDS_PER_RUN}s"
}

main "$@"
