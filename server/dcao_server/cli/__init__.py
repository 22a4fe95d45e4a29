"""The commands of `dcao-controller`, one file each; `main` puts them together."""
