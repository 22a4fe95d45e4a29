# Sourced where $VENV is: sets $pip, and installs the torch that everything is tested with.
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
