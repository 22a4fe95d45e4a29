"""The `dcao` command: everything a person does by hand. It starts wherever any part of DCAO is installed.

A command is imported when it is called: some bring torch, `dcao runs` should not wait for it, and what one needs need
not be there for another.
"""

import sys

NEEDS_CLI = "dcao needs the package {}; pip install 'dcao[client]', or 'dcao[server]' for the controller"


def main() -> None:
    """Runs the command line."""
    try:
        from dcao_client.cli.commands import run
    except ModuleNotFoundError as error:
        print(NEEDS_CLI.format(error.name), file=sys.stderr)
        sys.exit(1)
    sys.exit(run())


if __name__ == "__main__":
    main()
