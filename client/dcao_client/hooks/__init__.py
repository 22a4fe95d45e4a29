"""Hooks into training loops: where a decision is asked for, and how it gets into the optimizer."""
