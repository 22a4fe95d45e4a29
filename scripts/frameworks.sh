#!/bin/sh
# Makes the environment of the training frameworks from its constraints file: they are heavy, and pin each other.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv-frameworks}

if [ ! -x "$VENV/bin/python" ]; then
    "$PYTHON" -m venv "$VENV"
fi
. scripts/torch.sh
$pip install -q -c constraints-frameworks.txt --group frameworks --group fastai \
    -e '.[accelerate,ignite,lightning,optax,ray,skorch,tensorflow,transformers]'
$pip install -q -c constraints-frameworks.txt --no-deps fastai # see the group of its name
