"""Options that several commands take."""

from typing import Annotated

import typer

Url = Annotated[str | None, typer.Option("--url", help="Controller. [DCAO_URL, http://127.0.0.1:8000]")]
Project = Annotated[str | None, typer.Option("--project", help="Project. [DCAO_PROJECT, default]")]
