"""The history of a run, for people: pages, exports, live events, and what another policy would have decided."""
