"""Who may do what: API keys with scopes per project, a rate limit for each, and an audit trail.

Off on loopback unless keys are configured; any other address needs them. Enforced before routing, by one table
(`needs`), so a route needs no declaration of its own to be closed.
"""

from dcao_server.security.exposure import check_exposure
from dcao_server.security.guard import Guard
from dcao_server.security.keys import ApiKey, Scope

__all__ = ["ApiKey", "Guard", "Scope", "check_exposure"]
