"""Writes the dashboards: `python deploy/grafana/build.py`, or `--check` to say whether the files are up to date.

The JSON is what Grafana reads and what is committed; this is what people change. No jsonnet and no SDK: three
dashboards need six functions.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dcao_dashboards import fleet, run, service

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {"dcao-fleet": fleet.dashboard, "dcao-run": run.dashboard, "dcao-service": service.dashboard}


def rendered() -> dict[str, str]:
    """File name → JSON text."""
    return {
        f"{name}.json": json.dumps(build(), indent=2, ensure_ascii=False) + "\n" for name, build in DASHBOARDS.items()
    }


def main() -> int:
    """Exit code: 0, or 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check: bool = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, text in rendered().items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if check and stale:
        print(f"expected {', '.join(stale)} as build.py makes them, got others; run python deploy/grafana/build.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
