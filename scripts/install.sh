#!/bin/sh
# Makes the virtual environment from the constraints file. CPU PyTorch is pinned there; the index for it is PyTorch's own
# unless pip already knows a place that has the wheel.
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
torch=$(grep '^torch==' constraints.txt)
"$VENV/bin/python" -c 'import torch' 2>/dev/null || "$VENV/bin/pip" install -q "$torch" \
    || "$VENV/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu "$torch"
"$VENV/bin/pip" install -q -c constraints.txt pip
"$VENV/bin/pip" install -q -c constraints.txt --group dev -e '.[all]'
