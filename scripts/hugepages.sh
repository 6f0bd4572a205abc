#!/usr/bin/env bash
# Reserves, frees and shows 2 MB hugepages.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: hugepages.sh [N]

  hugepages.sh      shows the 2 MB hugepages of this machine
  hugepages.sh N    reserves N of them in all, such as 512 for 1 GB (root)
  hugepages.sh 0    frees those that nobody uses (root)

They are gone after a reboot. To have them from the start, before memory is fragmented, put
hugepages=N on the kernel's command line.
TEXT
}

readonly POOL=/sys/kernel/mm/hugepages/hugepages-2048kB

die() {
    echo "hugepages.sh: $*" >&2
    exit 1
}

count() {
    cat "$POOL/$1"
}

show() {
    local total free
    total=$(count nr_hugepages)
    free=$(count free_hugepages)
    echo "$total hugepages of 2 MB ($((total * 2)) MB), $free of them free"
}

set_total() {
    local wanted=$1 got
    [[ $EUID -eq 0 ]] || die "only root can change the number of hugepages: sudo $0 $wanted"
    # Memory in small pieces is joined first, so that more of it can become hugepages.
    { echo 1 >/proc/sys/vm/compact_memory; } 2>/dev/null || true
    { echo "$wanted" >"$POOL/nr_hugepages"; } 2>/dev/null ||
        die "the kernel does not let us change $POOL/nr_hugepages. In a container: reserve them on the host"
    got=$(count nr_hugepages)
    show
    if [[ $got -lt $wanted ]]; then
        die "$wanted hugepages were wanted: memory is short or fragmented.
Ask for fewer, end other programs, or reserve them at boot (hugepages=$wanted on the kernel's command line)"
    fi
    if [[ $got -gt $wanted ]]; then
        die "$wanted hugepages were wanted, but $((got - $(count free_hugepages))) are in use: end the programs that use them"
    fi
}

main() {
    [[ $# -le 1 ]] || { usage >&2 && exit 2; }
    case "${1-}" in
        -h | --help) usage && exit 0 ;;
    esac
    [[ $# -eq 0 || ${1-} =~ ^[0-9]{1,7}$ ]] || { usage >&2 && exit 2; }
    [[ -d $POOL ]] || die "this kernel has no 2 MB hugepages ($POOL is not there)"
    if [[ $# -eq 0 ]]; then
        show
    else
        set_total "$((10#$1))"
    fi
}

main "$@"
