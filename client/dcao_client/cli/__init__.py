"""The `dcao` command."""
