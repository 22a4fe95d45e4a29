#!/bin/sh
# Makes sure that the engine has the images this project's images are built on, and says where each came from.
#
# Pulled where a registry answers. Where none does, built from Debian's packages, laid out as the image they stand in for.
# Grafana is in no Debian release: without a registry there is no image of it, and the stack runs without that service.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="${DCAO_ENGINE:-/var/tmp/dcao-engine}"
mirror="${DCAO_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
. "$here/build.sh"

has() {
    docker image inspect "$1" >/dev/null 2>&1
}

debian() { # the root of a minimal Debian, packed without what no container reads
    has debian:bookworm-slim && return
    root="$folder/debian"
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >"$folder/debootstrap.log" 2>&1 || {
        echo "bases.sh: debootstrap failed; its last words:" >&2
        tail -n 20 "$folder/debootstrap.log" >&2
        exit 1
    }
    tar -C "$root" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
        --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' -c . | docker import - debian:bookworm-slim >/dev/null
    rm -rf "$root"
}

base() { # base IMAGE STAND_IN
    if has "$1"; then
        echo "base $1: at hand"
    elif timeout 300 docker pull -q "$1" >/dev/null 2>&1; then
        echo "base $1: pulled"
    elif [ -n "$2" ]; then
        debian
        build -t "$1" -f "$here/bases/$2.Dockerfile" "$here/bases"
        echo "base $1: no registry answers; built from Debian's packages as a stand-in"
    else
        echo "base $1: no registry answers and Debian has no package of it; the stack runs WITHOUT this service"
    fi
}

# The names are the ones in deploy/*.Dockerfile.
name() { # name ARGUMENT FILE
    sed -n "s/^ARG $1=//p" "$here/../../../deploy/$2.Dockerfile"
}

base "$(name PYTHON_IMAGE controller)" python
base "$(name REDIS_IMAGE redis)" redis
base "$(name PROMETHEUS_IMAGE prometheus)" prometheus
base "$(name HAPROXY_IMAGE proxy)" haproxy
base "$(name GRAFANA_IMAGE grafana)" ""
