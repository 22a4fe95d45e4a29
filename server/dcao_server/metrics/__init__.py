"""What Prometheus reads: the service's own metrics at `/metrics`, those of the live runs at `/metrics/runs`.

`Metrics` counts what one replica did; every replica exports its own. Run metrics come from the store, are the same on
every replica, and are scraped once from whichever answers.
"""

from dcao_server.metrics.service import DecisionOutcome, Metrics

__all__ = ["DecisionOutcome", "Metrics"]
