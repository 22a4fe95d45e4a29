"""Runs: created, listed, restarted from checkpoints, ended, deleted."""
