"""Which policies there are."""

from functools import lru_cache

from fastapi import APIRouter, Response

from dcao_proto import PolicyInfo, PolicyList, paths
from dcao_proto.policy import policies
from dcao_server.responses import answer, problems

router = APIRouter(tags=["policies"])


@lru_cache(maxsize=1)
def _list() -> PolicyList:
    """Entry points do not change while the process lives."""
    return PolicyList(
        policies=tuple(
            PolicyInfo(
                name=policy.name,
                version=policy.version,
                summary=policy.summary,
                params_schema=policy.params.model_json_schema(),
                sentences=dict(policy.sentences) or None,
            )
            for policy in policies()
        )
    )


@router.get(paths.POLICIES, response_model=PolicyList, responses=problems(), summary="Policies")
async def list_policies() -> Response:
    """Built in and installed, each with the JSON Schema of its parameters."""
    return answer(_list())
