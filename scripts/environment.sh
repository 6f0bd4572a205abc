# shellcheck shell=bash
# Read by the other scripts: where the repository is, and how to call cargo.

# shellcheck disable=SC2034 # It is used where this is read.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPT=$(basename "$0")

die() {
    echo "$SCRIPT: $*" >&2
    exit 1
}

# Calls cargo, or another program of Rust. Under sudo it runs as the user who called sudo: that is
# where rustup keeps its toolchains, and what is built should belong to that user.
run_rust() {
    local user=${SUDO_USER:-root} home
    if [[ $EUID -ne 0 || $user == root ]]; then
        PATH=$PATH:$HOME/.cargo/bin "$@"
        return
    fi
    home=$(getent passwd "$user" | cut -d : -f 6)
    runuser -u "$user" -- env HOME="$home" PATH="$PATH:$home/.cargo/bin" "$@"
}
