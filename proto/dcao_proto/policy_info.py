"""What a controller says of the policies it has: body of `GET /v1/policies`."""

from typing import Any

from pydantic import Field

from dcao_proto.message import Count, Message, Name


class PolicyInfo(Message):
    """One policy, built in or installed as a plug-in."""

    name: Name = Field(description="What a run's specification names.")
    version: Count = Field(description="Changes when the policy's decisions do.")
    summary: str = Field(description="One sentence.")
    params_schema: dict[str, Any] = Field(description="JSON Schema of the policy's parameters, with their defaults.")
    sentences: dict[str, str] | None = Field(
        default=None, description="What its own reason codes mean, by code; absent where it has none of its own."
    )


class PolicyList(Message):
    """All policies of a controller, by name."""

    policies: tuple[PolicyInfo, ...]
