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

random() { # 32 hexadecimal digits: 128 bits, and nothing that a shell, a URL or a configuration file would quote
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

make() { # make NAME TEXT
    [ -s "$folder/$1" ] && return
    printf '%s' "$2" >"$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

make redis_password "$(random)"
make grafana_admin_password "$(random)"
