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
pip="$VENV/bin/python -m pip"
$pip install -q --upgrade 'pip>=25.1' # the first that reads dependency groups

# PyPI's Linux wheel of torch brings gigabytes of CUDA. Unless pip is set up with wheels of its own, take the CPU build.
torch=$(grep '^torch==' constraints.txt)
if ! "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    if [ "$(uname)" = Linux ] && ! $pip config list | grep -q find-links; then
        $pip install -q --index-url https://download.pytorch.org/whl/cpu "$torch"
    else
        $pip install -q "$torch"
    fi
fi
$pip install -q -c constraints.txt --group dev -e '.[all]'
