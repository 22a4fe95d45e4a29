#!/bin/sh
# Installs the real components that the tests talk to. Nothing is installed that is already there.
set -eu

missing=""
need() { # command, Debian package, Homebrew formula
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2=$3"
}
need redis-server redis-server redis
need promtool prometheus prometheus
need chromium chromium chromium
need openssl openssl openssl
need haproxy haproxy haproxy
need node nodejs node
need tsc node-typescript typescript # no npm registry is needed
need docker-compose docker-compose docker-compose # for `config`; no engine is needed
[ -e /usr/share/datasets/fashion-mnist ] || [ "$(uname)" = Darwin ] || missing="$missing dataset-fashion-mnist=-"
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    packages=$(for m in $missing; do echo "${m%%=*}"; done)
    # The packages' own services would occupy the ports; tests start their own instances.
    $sudo apt-get update -q
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $packages
elif command -v brew >/dev/null 2>&1; then
    for m in $missing; do
        [ "${m##*=}" = - ] || brew install "${m##*=}"
    done
else
    echo "expected these programs, which no package manager here can install:$(for m in $missing; do printf ' %s' "${m%%=*}"; done); install them and run again" >&2
    exit 1
fi
