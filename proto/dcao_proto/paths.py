"""Every path of the API, for the server to mount and the client to call."""

V1 = "/v1"
HEALTHZ = "/healthz"
READYZ = "/readyz"
METRICS = "/metrics"
RUN_METRICS = "/metrics/runs"
OPENAPI = "/openapi.json"
POLICIES = f"{V1}/policies"
DECIDE = f"{V1}/decide"
PROJECTS = f"{V1}/projects"
ALL_RUNS = f"{V1}/runs"
RUNS = PROJECTS + "/{project}/runs"
RUN = RUNS + "/{run}"
FINISH = RUN + ":finish"
FAIL = RUN + ":fail"
REPLAY = RUN + ":replay"
ABOUT = RUN + "/about"
ATTEMPTS = RUN + "/attempts"
DECISIONS = RUN + "/decisions"
BACKFILL = RUN + "/decisions:backfill"
OUTLINE = RUN + "/outline"
EVENTS = RUN + "/events"

# Header of a decision that healed the history: the newest step the store still had before it. Whoever keeps records
# newer than that should backfill them.
HEALED_AFTER_HEADER = "DCAO-Healed-After"


def run_path(project: str, run: str) -> str:
    """`/v1/projects/{project}/runs/{run}`; the names need no escaping, their pattern sees to that."""
    return RUN.format(project=project, run=run)
