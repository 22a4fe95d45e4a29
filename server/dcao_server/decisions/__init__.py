"""Decisions: an observation in, the values to use out, once for each step."""
