#!/usr/bin/env bash
# Checks the Kubernetes manifests of docker/k8s.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: manifests.sh [DIR]

Checks the manifests of DIR (docker/k8s) against the schemas of Kubernetes, unknown members included,
and that coordinator and agents belong together. The validator comes from PyPI with all schemas, once,
into target/; nothing is asked of a cluster. Where it cannot be installed nothing is checked, the
reason is printed, and the exit code is 0.
TEXT
}

readonly VALIDATOR=kubernetes-validate==1.37.0
readonly VENV=$ROOT/target/kubernetes-validate
# The oldest release that the manifests are for, and the newest that the validator knows.
readonly RELEASES=(1.29 1.37)

install_validator() {
    local log
    [[ ! -x $VENV/bin/kubernetes-validate ]] || return 0
    log=$(mktemp)
    if ! { python3 -m venv "$VENV" && "$VENV/bin/pip" install --quiet "$VALIDATOR"; } >"$log" 2>&1; then
        echo "manifests left out: $VALIDATOR cannot be installed: $(tail -n 1 "$log")"
        rm -rf "$log" "$VENV"
        exit 0
    fi
    rm -f "$log"
}

# What no schema knows.
check_together() {
    "$VENV/bin/python" - "$@" <<'PYTHON'
import sys
import yaml

documents = [d for name in sys.argv[1:] for d in yaml.safe_load_all(open(name)) if d]
jobs = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Job"}
services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}


def container(job):
    return job["template"]["spec"]["containers"][0]


def variable(job, name):
    return next(v.get("value") for v in container(job)["env"] if v["name"] == name)


def check(holds, text):
    if not holds:
        sys.exit("manifests.sh: " + text)


agents, coordinator = jobs["homa-agents"], jobs["homa-coordinator"]
count = agents["completions"]
check(agents["completionMode"] == "Indexed", "agents need an index each: completionMode: Indexed")
check(agents["parallelism"] == count, "all agents must run at a time: parallelism as completions")
wanted = variable(coordinator, "HOMA_LOAD_AGENTS")
check(int(wanted) == count, f"the coordinator waits for {wanted} agents, and there are {count}")
host, port = variable(agents, "HOMA_LOAD_COORDINATOR").split(":")
check(host in services, f"agents look for {host}, and there is no such Service")
ports = [p["port"] for p in services[host]["ports"]]
check(int(port) in ports, f"agents look for port {port}, and the Service has {ports}")
labels = coordinator["template"]["metadata"]["labels"]
selector = services[host]["selector"]
check(selector.items() <= labels.items(), "the Service does not select the coordinator")
resources = container(agents)["resources"]
for name in resources["limits"]:
    if name.startswith("hugepages-") or "/" in name:
        same = resources["requests"].get(name) == resources["limits"][name]
        check(same, f"{name}: requests and limits must be the same")
PYTHON
}

main() {
    local directory=$ROOT/docker/k8s release
    case "$#:${1-}" in
        0:) ;;
        1:-h | 1:--help) usage && exit 0 ;;
        1:-*) usage >&2 && exit 2 ;;
        1:*) directory=$1 ;;
        *) usage >&2 && exit 2 ;;
    esac
    [[ -d $directory ]] || die "$directory is not a directory"
    install_validator
    for release in "${RELEASES[@]}"; do
        "$VENV/bin/kubernetes-validate" --strict -k "$release" "$directory"/*.yaml ||
            die "$directory: not what Kubernetes $release takes"
    done
    check_together "$directory"/*.yaml
    echo "the manifests of $directory are as Kubernetes ${RELEASES[*]} takes them"
}

main "$@"
