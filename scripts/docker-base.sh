#!/usr/bin/env bash
# Makes the base image of docker/Dockerfile out of Debian's packages, where no registry is reachable.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: docker-base.sh [--mirror URL] [IMAGE]

Makes a Debian 12 as small as debian:12-slim with debootstrap and imports it as IMAGE
(homa-base:bookworm); does nothing if that is there. Use it with
    docker build --build-arg BASE=homa-base:bookworm ...
Needs root, a Docker daemon, and a mirror of Debian: that of apt unless another is given.
TEXT
}

IMAGE=homa-base:bookworm
readonly SUITE=bookworm
readonly DEFAULT_MIRROR=http://deb.debian.org/debian

# The mirror that apt uses for Debian itself, in either form of its lists.
mirror_of_apt() {
    local uris
    uris=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        grep -Eo '^(deb|URIs:) .*' | grep -Eo 'https?://[^ ]+/debian/?( |$)' | head -n 1) || true
    echo "${uris:-$DEFAULT_MIRROR}"
}

main() {
    local mirror='' root
    while [[ $# -gt 0 ]]; do
        case "$1" in
            -h | --help) usage && exit 0 ;;
            --mirror)
                [[ -n ${2-} ]] || { usage >&2 && exit 2; }
                mirror=$2
                shift 2
                ;;
            -*) usage >&2 && exit 2 ;;
            *)
                IMAGE=$1
                shift
                ;;
        esac
    done
    docker info >/dev/null 2>&1 || die "no Docker daemon answers: start it (dockerd)"
    if docker image inspect "$IMAGE" >/dev/null 2>&1; then
        echo "$IMAGE is there"
        return
    fi
    [[ $EUID -eq 0 ]] || die "only root can run debootstrap: sudo $0"
    command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
    [[ -n $mirror ]] || mirror=$(mirror_of_apt)
    root=$(mktemp -d)
    # shellcheck disable=SC2064 # The directory of now.
    trap "rm -rf '$root'" EXIT
    echo "$SCRIPT: $SUITE from $mirror"
    debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >"$root.log" 2>&1 ||
        die "debootstrap failed; all it said is in $root.log:
$(tail -n 5 "$root.log")"
    rm -f "$root.log"
    # What a slim image does without.
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
        "$root"/usr/share/{doc,man,info,locale}/*
    tar -C "$root" --numeric-owner -c . | docker import -c 'CMD ["bash"]' - "$IMAGE" >/dev/null
    docker image inspect --format '{{.RepoTags}} {{.Size}} bytes' "$IMAGE"
}

main "$@"
