"""The ceiling: a bare Starlette endpoint that makes one EVALSHA of a decision's size and answers a decision's bytes.

It validates nothing, decides nothing and knows nothing; whatever the controller does beyond it is the controller's
own cost. Same script, same sizes of arguments and answers (those of a run that has decided for a while, whose state is
as long as it gets), same server settings, redis-py's own default pool.
"""

import hashlib
import itertools
import random
import sys
from importlib.resources import files

import uvicorn
from closed_loop import SPEC, observation
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import PolicyState, bind
from dcao_server.history.codec import encode
from dcao_server.runs.identity import digest_of

RUNS = 64
DECISIONS = 50  # after which a state has everything in it


def main(port: int, redis_port: int) -> None:
    """Serves until it is terminated."""
    script = files("dcao_server.store").joinpath("lua", "append.lua").read_bytes()
    sha = hashlib.sha1(script, usedforsecurity=False).hexdigest()
    redis = Redis(port=redis_port)
    policy, memory, noise = bind(RunSpec.model_validate(SPEC)), PolicyState(), random.Random(0)
    for version in range(DECISIONS):
        seen = Observation.model_validate(observation(10 * version, noise))
        decision, memory = policy.advance(seen, memory, version)
    digest, payload, state = digest_of(policy.spec_segment), encode(seen, decision, 1.8e9), decision.state or ""
    body = decision.wire_json()
    steps = itertools.count(1)

    async def start() -> None:
        await redis.script_load(script)
        for run in range(RUNS):
            await redis.hset(
                f"dcao:1:{{ceiling/{run}}}:meta",
                mapping={"dg": digest, "a": "1", "v": "0", "st": state, "status": "created"},
            )

    async def decide(request: Request) -> Response:
        await request.body()
        step = next(steps)
        key = f"dcao:1:{{ceiling/{step % RUNS}}}"
        await redis.evalsha(
            sha, 2, f"{key}:meta", f"{key}:h:1", 1, step, step, step + 1, digest, payload, state, 86400, "1.8e9", 10**6
        )
        return Response(body, media_type="application/json")

    async def ready(_request: Request) -> Response:
        await start()
        return Response(b"{}")

    routes = [Route("/{path:path}", decide, methods=["POST", "PUT"]), Route("/readyz", ready)]
    uvicorn.run(
        Starlette(routes=routes), port=port, loop="uvloop", http="httptools", access_log=False, log_level="error"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
