"""`dcao-controller`, which starts wherever any part of DCAO is installed, if only to say what to install."""

import io
import sys


def main() -> int:
    """Runs the controller's command line; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8
    try:
        from dcao_server.main import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dcao_"):
            raise
        print(f"dcao-controller needs the package {error.name}; pip install 'dcao[server]'", file=sys.stderr)
        return 1
    return run()
