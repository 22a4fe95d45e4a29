#!/bin/sh
# Starts Redis with the password from DCAO_REDIS_PASSWORD_FILE.
#
# The password goes through a file on a tmpfs, not the command line: a command line can be read by every process on
# the host. Arguments are passed on to redis-server.
set -eu
secret="${DCAO_REDIS_PASSWORD_FILE:-/run/secrets/redis_password}"
conf="${TMPDIR:-/tmp}/redis.conf"
[ -s "$secret" ] || {
    echo "dcao-redis: expected the Redis password in $secret, found no such file or an empty one;" \
        "make one with deploy/secrets.sh and mount it as a secret" >&2
    exit 1
}
umask 077
{
    cat /usr/local/etc/redis/redis.conf
    printf 'requirepass %s\n' "$(cat "$secret")"
    [ -z "${DCAO_REDIS_MAXMEMORY:-}" ] || printf 'maxmemory %s\n' "$DCAO_REDIS_MAXMEMORY"
} >"$conf"
exec redis-server "$conf" "$@"
