#!/bin/sh
# Starts Redis with the password from DCAO_REDIS_PASSWORD_FILE; with the one argument `ping` asks a running one instead.
#
# The password goes through a file on a tmpfs, not the command line: a command line can be read by every process on
# the host. It is quoted there as redis.conf wants it, so it may hold anything but a line end. Other arguments are
# passed on to redis-server.
set -eu
secret="${DCAO_REDIS_PASSWORD_FILE:-/run/secrets/redis_password}"
conf="${TMPDIR:-/tmp}/redis.conf"

refuse() {
    echo "dcao-redis: expected the Redis password in $secret, found $1" >&2
    exit 1
}
[ -s "$secret" ] && [ -r "$secret" ] ||
    refuse "no such file or an empty one; make one with deploy/secrets.sh and mount it as a secret"
[ "$(tr -d '\000' <"$secret" | wc -c)" -eq "$(wc -c <"$secret")" ] ||
    refuse "bytes of 0 (UTF-16?); save it as UTF-8"

# The same text that the controller reads: without a byte order mark and the line end at the end, CR LF included.
mark="$(printf '\357\273\277')"
password="$(cat "$secret")"
password="${password#"$mark"}"
return="$(printf '\r')"
while [ "$password" != "${password%"$return"}" ]; do password="${password%"$return"}"; done
case "$password" in
"") refuse "nothing but a line end; make one with deploy/secrets.sh" ;;
*"
"* | *"$return"*) refuse "several lines; leave the password alone in it" ;;
esac

if [ "$*" = ping ]; then
    [ "$(REDISCLI_AUTH="$password" redis-cli ping 2>&1)" = PONG ]
    exit
fi
umask 077
{
    cat /usr/local/etc/redis/redis.conf
    # In double quotes redis.conf gives a meaning to \ and " only.
    printf 'requirepass "%s"\n' "$(printf '%s' "$password" | sed 's/[\\"]/\\&/g')"
    [ -z "${DCAO_REDIS_MAXMEMORY:-}" ] || printf 'maxmemory %s\n' "$DCAO_REDIS_MAXMEMORY"
} >"$conf"
exec redis-server "$conf" "$@"
