#!/usr/bin/env bash
# A cluster of containers on one machine: builds the image, runs docker/compose.yaml, checks what comes
# out.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: cluster-docker.sh [--seconds N] [--binary FILE] [--image-only]

Puts homa-load into an image, without a registry, and runs four hosts and a coordinator as containers:
workload W3 from all to all, then a 3:1 incast, then a run in which one host is killed, which must be
named while the others finish. Without a Docker daemon nothing is run, the reason is printed, and the
exit code is 0. Needs root for the base image (see docker-base.sh), once.

  --seconds N    measure N seconds per run, 1 to 600 (3)
  --binary FILE  this homa-load, built on Debian 12, instead of one built here
  --image-only   only build the image, with the drivers of network cards
TEXT
}

readonly BASE=homa-base:bookworm
readonly PROJECT=homa-cluster
SECONDS_PER_RUN=3
BINARY=
IMAGE_ONLY=no
WORK=

wrong() {
    echo "$SCRIPT: $*" >&2
    exit 2
}

parse_arguments() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
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
            --image-only)
                IMAGE_ONLY=yes
                shift
                ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
    done
}

# The older docker-compose and the newer plugin take the same words.
compose() {
    local tool=(docker compose)
    docker compose version >/dev/null 2>&1 || tool=(docker-compose)
    "${tool[@]}" --project-name "$PROJECT" --file "$ROOT/docker/compose.yaml" "$@"
}

left_out() {
    echo "cluster of containers left out: $*"
    exit 0
}

check_tools() {
    command -v docker >/dev/null || left_out "docker is not installed"
    docker info >/dev/null 2>&1 || left_out "no Docker daemon answers"
    compose version >/dev/null 2>&1 || left_out "there is neither docker compose nor docker-compose"
    if ! docker image inspect "$BASE" >/dev/null 2>&1; then
        [[ $EUID -eq 0 ]] || left_out "only root can make the base image"
        command -v debootstrap >/dev/null || left_out "debootstrap is not installed"
    fi
}

clean_up() {
    if [[ $IMAGE_ONLY == no ]]; then
        compose down --timeout 5 >/dev/null 2>&1 || true
    fi
    rm -rf "$WORK"
}

# The image with the program of this machine.
build_image() {
    local arguments=(--build-arg "BASE=$BASE") old
    "$ROOT/scripts/docker-base.sh" "$BASE"
    if [[ -z $BINARY ]]; then
        (cd "$ROOT" && run_rust cargo build --release --locked --bin homa-load)
        BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/release/homa-load
    fi
    # Containers of software ports need no drivers of cards.
    [[ $IMAGE_ONLY == yes ]] || arguments+=(--build-arg CARDS=)
    old=$(docker image inspect --format '{{.Id}}' "$HOMA_IMAGE" 2>/dev/null) || true
    mkdir "$WORK/context"
    strip -o "$WORK/context/homa-load" "$BINARY" || cp "$BINARY" "$WORK/context/homa-load"
    if ! docker build --file "$ROOT/docker/Dockerfile" --target prebuilt --tag "$HOMA_IMAGE" \
        "${arguments[@]}" "$WORK/context" >"$WORK/build.log" 2>&1; then
        tail -n 20 "$WORK/build.log" >&2
        die "the image could not be built"
    fi
    # The image of the last time has no name any more.
    [[ -z $old ]] || docker image rm "$old" >/dev/null 2>&1 || true
    docker image inspect --format '{{.RepoTags}} {{.Size}} bytes' "$HOMA_IMAGE"
    docker run --rm --cap-drop ALL "$HOMA_IMAGE" --version ||
        die "the program does not run in the image: was it built on Debian 12?"
}

# Runs a load on all hosts: the agents begin anew, the coordinator's exit code is ours.
run_load() {
    printf '\n== %s\n' "$*"
    compose run --rm --use-aliases -T coordinator "$@" --duration "${SECONDS_PER_RUN}s"
}

# Kills a host in the middle of a run: the coordinator must say so, and the others must finish.
kill_one() {
    local pid status=0 name
    run_load --pattern all-to-all --workload w3 --rps 200 --warm-up 2s >"$WORK/kill.log" 2>&1 &
    pid=$!
    until grep -q 'the load begins' "$WORK/kill.log"; do
        kill -0 "$pid" 2>/dev/null || { cat "$WORK/kill.log" >&2 && die "the load did not begin"; }
        sleep 0.2
    done
    compose kill agent-2 >/dev/null 2>&1
    wait "$pid" || status=$?
    cat "$WORK/kill.log"
    [[ $status -eq 1 ]] || die "exit code 1 was expected of a run that lost a host, not $status"
    grep -q 'host agent-2 was lost' "$WORK/kill.log" || die "the host that was lost is not named"
    for name in agent-0 agent-1 agent-3; do
        grep -Eq "^  $name +[1-9]" "$WORK/kill.log" || die "$name did not finish"
    done
}

main() {
    parse_arguments "$@"
    check_tools
    WORK=$(mktemp -d)
    trap clean_up EXIT
    export HOMA_IMAGE=homa-load
    [[ $IMAGE_ONLY == yes ]] || HOMA_IMAGE=homa-load:cluster
    build_image
    [[ $IMAGE_ONLY == no ]] || return 0
    # What a run that was cut off has left behind.
    compose down --timeout 5 >/dev/null 2>&1 || true
    if [[ $(nproc) -gt 1 ]]; then export HOMA_ODD_CORE=1; fi
    run_load --pattern all-to-all --workload w3 --outstanding 8
    run_load --pattern incast:3 --workload w3 --outstanding 8
    kill_one
    printf '\nthe cluster of containers did what it should, in %d s\n' "$SECONDS"
}

main "$@"
