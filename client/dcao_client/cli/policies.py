"""`dcao policies`: the laws that are installed here, with their parameters. Needs no controller."""

from typing import Annotated

import typer
from rich.table import Table

from dcao_client.cli.output import CommandError, console
from dcao_proto.policy import UnknownPolicyError, get_policy
from dcao_proto.policy import policies as all_policies


def policies(name: Annotated[str | None, typer.Argument(help="One policy, with its parameters.")] = None) -> None:
    """Lists the policies, or the parameters of one."""
    if name is None:
        table = Table("policy", "version", "what it does")
        for policy in all_policies():
            table.add_row(policy.name, str(policy.version), policy.summary)
        console().print(table)
        return
    try:
        policy = get_policy(name)
    except UnknownPolicyError as error:
        raise CommandError(str(error)) from error
    table = Table("parameter", "default", "meaning", title=f"{policy.label}: {policy.summary}")
    for parameter, field in policy.params.model_fields.items():
        table.add_row(parameter, str(field.default), field.description or "")
    console().print(table)
