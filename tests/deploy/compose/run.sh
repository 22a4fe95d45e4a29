#!/bin/sh
# The compose test from a bare machine: programs, an engine, base images, this project's images, the checks.
#
# An engine that already answers is used as it is. Where none does (and the user is root) one is started for the test
# and stopped after it; DCAO_ENGINE=FOLDER says where it keeps its images, so that the next run is faster.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
export DCAO_ENGINE="${DCAO_ENGINE:-/var/tmp/dcao-engine}"
export DCAO_OWN_ENGINE=0

need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

install() {
    packages=""
    need python3 python3
    need docker docker.io
    docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
    if [ "$DCAO_OWN_ENGINE" = 1 ]; then
        need dockerd docker.io
        need iptables iptables
        need debootstrap debootstrap
        docker buildx version >/dev/null 2>&1 || [ -x /usr/bin/docker ] || packages="$packages docker.io"
    fi
    [ -z "$packages" ] && return
    # RUNLEVEL=1: the packages start no service of their own; the test starts what it needs.
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

if ! docker info >/dev/null 2>&1; then
    DCAO_OWN_ENGINE=1
fi
install
if [ "$DCAO_OWN_ENGINE" = 1 ]; then
    [ "$(id -u)" = 0 ] || {
        echo "expected a Docker engine that answers, or root to start one; got neither" >&2
        exit 1
    }
    trap 'sh "$here/engine.sh" stop' EXIT
    trap 'exit 130' INT TERM
    sh "$here/engine.sh" start
    export DOCKER_HOST="unix://$DCAO_ENGINE/docker.sock"
fi
sh "$here/bases.sh"
sh "$here/images.sh"
python3 "$here/main.py"
