#!/bin/sh
# Builds this project's images with the pip settings of this machine, handed in as build secrets, and prints their sizes.
#
# A CPU wheel of torch in pip's find-links folder is taken from there; without one, torch comes from PyTorch's index.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
folder="${DCAO_ENGINE:-/var/tmp/dcao-engine}"
version="${DCAO_VERSION:-0.1.0}"
prefix="${DCAO_IMAGES:-dcao}"
. "$here/build.sh"

mkdir -p "$folder"
settings="$folder/pip.conf"
certificates="${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}"
{
    echo "[global]"
    echo "cert = /run/secrets/ca.crt"
    echo "disable-pip-version-check = 1"
    index="$(python3 -m pip config get global.index-url 2>/dev/null || true)"
    [ -z "$index" ] || echo "index-url = $index"
} >"$settings"
secrets="--secret id=pip_conf,src=$settings --secret id=ca,src=$certificates"

image() { # image NAME ARGUMENTS…
    name="$1"
    shift
    # shellcheck disable=SC2086 # two options with their values, none of which holds a space
    build $secrets -t "$prefix/$name:$version" -f "$root/deploy/$name.Dockerfile" "$@" "$root"
    bytes="$(docker image inspect -f '{{.Size}}' "$prefix/$name:$version")"
    echo "image $prefix/$name:$version: $((bytes / 1000000)) MB"
}

worker() {
    # shellcheck disable=SC2086 # a list of folders
    wheel="$(ls ${PIP_FIND_LINKS:-/opt/wheels}/torch-*+cpu-*.whl 2>/dev/null | tail -n 1)"
    if [ -z "$wheel" ]; then
        image worker
        return
    fi
    held="$folder/wheels"
    rm -rf "$held"
    mkdir -p "$held"
    ln "$wheel" "$held/" 2>/dev/null || cp "$wheel" "$held/"
    printf 'FROM scratch\nCOPY *.whl /\n' >"$held/Dockerfile"
    build -t dcao-wheels -f "$held/Dockerfile" "$held"
    torch="$(basename "$wheel" | sed 's/^torch-\([^+]*\)+.*/\1/')"
    image worker --build-arg WHEELS_IMAGE=dcao-wheels --build-arg TORCH_INDEX= --build-arg "TORCH_VERSION=$torch"
}

image controller
image proxy
image redis
image prometheus
if docker image inspect "$(sed -n 's/^ARG GRAFANA_IMAGE=//p' "$root/deploy/grafana.Dockerfile")" >/dev/null 2>&1; then
    image grafana
fi
worker
