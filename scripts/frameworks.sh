#!/bin/sh
# Makes the environment of the training frameworks from its constraints file: they are heavy, and pin each other.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv-frameworks}

if [ ! -x "$VENV/bin/python" ]; then
    "$PYTHON" -m venv "$VENV"
fi
pip="$VENV/bin/python -m pip"
$pip install -q --upgrade 'pip>=25.1' # the first that reads dependency groups

# As in install.sh: the CPU build of torch, at the version that everything else is tested with.
torch=$(grep '^torch==' constraints.txt)
if ! "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    if [ "$(uname)" = Linux ] && ! $pip config list | grep -q find-links; then
        $pip install -q --index-url https://download.pytorch.org/whl/cpu "$torch"
    else
        $pip install -q "$torch"
    fi
fi
$pip install -q -c constraints-frameworks.txt --group frameworks -e '.[accelerate,lightning]'
