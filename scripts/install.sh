#!/bin/sh
# Makes the virtual environment from the constraints file.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "expected Python 3.11 or newer, got $("$PYTHON" --version 2>&1); set PYTHON=/path/to/python3.11" >&2
    exit 1
}
if [ ! -x "$VENV/bin/python" ]; then
    "$PYTHON" -m venv "$VENV" || {
        echo "python -m venv failed; on Debian: apt-get install python3-venv" >&2
        exit 1
    }
fi
. scripts/torch.sh
$pip install -q -c constraints.txt --group dev -e '.[all]'
