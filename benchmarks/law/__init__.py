"""The law on real data: what it ends at, beside tuned schedules and peers. `python -m benchmarks.law --help`."""
