#!/bin/sh
# Starts and stops a Docker engine of its own for the compose test. Usage: engine.sh start|stop
#
# It has its own data, state and socket, in $DCAO_ENGINE (a folder), so it can run beside another engine and leaves
# nothing behind but its cache of images. It needs root and no init system.
set -eu
folder="${DCAO_ENGINE:-/var/tmp/dcao-engine}"
socket="unix://$folder/docker.sock"

answers() {
    docker -H "$socket" info >/dev/null 2>&1
}

start() {
    answers && return
    mkdir -p "$folder"
    rm -f "$folder/pid"
    # overlay2 wants a file system that knows d_type and is no overlay itself; vfs copies, and works everywhere.
    for driver in overlay2 vfs; do
        setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
            --host "$socket" --storage-driver "$driver" >"$folder/log" 2>&1 </dev/null &
        daemon=$!
        for _ in $(seq 60); do
            answers && return
            kill -0 "$daemon" 2>/dev/null || break
            sleep 0.5
        done
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    done
    echo "engine.sh: expected a Docker engine on $socket within 30 s, got none; its last words:" >&2
    tail -n 20 "$folder/log" >&2
    exit 1
}

stop() {
    [ -s "$folder/pid" ] || return 0
    pid="$(cat "$folder/pid")"
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.5
    done
    echo "engine.sh: expected engine $pid to end within 30 s of SIGTERM; see $folder/log" >&2
    exit 1
}

case "${1:-}" in
start) start ;;
stop) stop ;;
*)
    echo "usage: engine.sh start|stop" >&2
    exit 2
    ;;
esac
