#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, where they do not exist yet. Usage: deploy/secrets.sh [FOLDER]
#
# The folder is for its owner only; the files in it can be read by every user, because each container reads its own
# as another user, and only those that mount it ever see it. Nothing is printed and nothing is overwritten: to change
# a secret, remove its file and run this again.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() { # random BYTES: hexadecimal, so that no shell, URL or configuration file would have to quote it
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

make() { # make NAME TEXT
    [ -s "$folder/$1" ] && return
    printf '%s' "$2" >"$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

make redis_password "$(random 16)"
make grafana_admin_password "$(random 16)"

# A key for the workers, and the record by which the controller knows it: what `dcao-controller keys create` would make,
# without needing Python here. Make more with that command, one for each project and person.
if [ ! -s "$folder/api_key" ]; then
    id="$(random 6)"
    key="dcao_${id}_$(random 24)"
    hash="$(printf '%s' "$key" | sha256)"
    rm -f "$folder/api_keys"
    make api_keys "{\"id\":\"$id\",\"sha256\":\"$hash\",\"grants\":{\"*\":\"write\"},\"created\":$(date +%s),\"note\":\"workers\"}"
    make api_key "$key"
fi
