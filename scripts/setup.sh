#!/usr/bin/env bash
# Installs what building and running homa-dpdk needs. Does nothing when it is there.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: setup.sh [--check] [--tests]

Installs the Debian or Ubuntu packages that building and running homa-dpdk needs, and says how to
get Rust if it is missing. Needs root only if a package is missing.

  --check   install nothing, only say what is missing (exit code 1 then)
  --tests   also what some tests use, and do without if they must: tshark, debootstrap,
            python3-venv
TEXT
}

# What is needed, one a line: patterns of packages of which one is enough, then the one to install.
# libdpdk-dev depends on every driver and memory pool handler (librte-net-*, librte-bus-*,
# librte-mempool-*); dpdk has the tools for devices.
requirements() {
    cat <<'TEXT'
build-essential                     build-essential
pkg-config pkgconf                  pkg-config
libclang-dev libclang-[0-9]*-dev    libclang-dev
libdpdk-dev                         libdpdk-dev
dpdk                                dpdk
iproute2                            iproute2
iputils-ping                        iputils-ping
iputils-arping arping               iputils-arping
netcat-openbsd netcat-traditional   netcat-openbsd
TEXT
    [[ $TESTS == no ]] || printf '%s\n' 'tshark tshark' 'debootstrap debootstrap' \
        'python3-venv python3-venv'
}

# Whether to see to the needs of the tests as well.
TESTS=no

is_installed() {
    local states
    states=$(dpkg-query --show --showformat '${db:Status-Status}\n' "$1" 2>/dev/null) || return 1
    [[ $'\n'$states$'\n' == *$'\ninstalled\n'* ]]
}

missing_packages() {
    local words pattern found
    while read -r -a words; do
        found=no
        for pattern in "${words[@]::${#words[@]}-1}"; do
            if is_installed "$pattern"; then
                found=yes
                break
            fi
        done
        [[ $found == yes ]] || echo "${words[-1]}"
    done < <(requirements)
}

check_system() {
    command -v dpkg-query >/dev/null && return
    die "this is neither Debian nor Ubuntu: there is no dpkg-query.
Install by hand a C compiler, pkg-config, libclang, and DPDK 22.11 or later with its headers.
Without DPDK the protocol alone can be built: cargo build --no-default-features"
}

install_packages() {
    local log
    [[ $EUID -eq 0 ]] || die "these packages are missing: $*
Only root can install them: sudo ${BASH_SOURCE[0]}"
    echo "$SCRIPT: installing $*"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "apt-get could not install $*. All it said is in $log"
    fi
    rm -f "$log"
}

check_dpdk() {
    local version
    pkg-config --exists 'libdpdk >= 22.11' && return
    version=$(pkg-config --modversion libdpdk 2>/dev/null) || version="not to be found by pkg-config"
    die "DPDK is $version, and 22.11 or later is needed.
Debian 12 and Ubuntu 24.04 have it. Else build DPDK yourself and set PKG_CONFIG_PATH"
}

check_rust() {
    local needed version
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
    version=$(cd "$ROOT" && run_rust rustc --version 2>/dev/null | cut -d ' ' -f 2) || version=
    if [[ -z $version ]] || ! run_rust cargo --version >/dev/null 2>&1; then
        die "Rust is missing: cargo or rustc does not run.
Install Rust $needed or later as https://rustup.rs says, then open a new shell and try again"
    fi
    [[ $(printf '%s\n' "$needed" "$version" | sort --version-sort | head -n 1) == "$needed" ]] ||
        die "Rust is $version, and $needed or later is needed: rustup update stable"
}

main() {
    local check=no missing option
    for option in "$@"; do
        case "$option" in
            --check) check=yes ;;
            --tests) TESTS=yes ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
    done
    check_system
    mapfile -t missing < <(missing_packages)
    if [[ ${#missing[@]} -gt 0 ]]; then
        [[ $check == no ]] || die "these packages are missing: ${missing[*]}"
        install_packages "${missing[@]}"
    fi
    check_dpdk
    check_rust
}

main "$@"
