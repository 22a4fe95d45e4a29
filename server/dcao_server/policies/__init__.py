"""The policies that this controller can decide by."""
