"""`GET /` and `GET /static/…`: files of the package, and the table of words."""

import hashlib
import json
import mimetypes
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

from dcao_proto.policy.reasons import ACTIONS, REGIMES
from dcao_proto.policy.registry import sentences
from dcao_proto.problem import ProblemError, ProblemKind

INDEX = "index.html"
REASONS_JSON = "reasons.json"
# Asked again each time and answered with 304 when unchanged: no version in names, no stale page after an update.
REVALIDATE = "no-cache"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}


def page_router() -> APIRouter:
    """The routes of the page; none is part of the API's schema."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return answer(request, INDEX)

    @router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def static(request: Request, name: str) -> Response:
        return answer(request, name)

    return router


def answer(request: Request, name: str) -> Response:
    """The file, or 304 when the browser has it.

    Raises:
        ProblemError: there is no such file.
    """
    found = assets().get(name)
    if found is None:
        raise ProblemError(ProblemKind.NOT_FOUND, f"expected one of the page's files, got '{name}'")
    body, media_type, tag = found
    headers = {"ETag": tag, "Cache-Control": REVALIDATE}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


@lru_cache(maxsize=1)
def assets() -> dict[str, tuple[bytes, str, str]]:
    """Every file by its path below `static`: bytes, media type, entity tag. Read once; 250 kB in all.

    Only names in this table are served, so no path can lead out of the folder.
    """
    words = {"sentences": sentences(), "regimes": REGIMES, "actions": ACTIONS}
    found = {REASONS_JSON: json.dumps(words, ensure_ascii=False).encode()}
    _collect(files("dcao_server.page") / "static", "", found)
    return {
        name: (body, _media_type(name), f'"{hashlib.sha256(body).hexdigest()[:20]}"') for name, body in found.items()
    }


def _collect(folder: Traversable, prefix: str, found: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", found)
        else:
            found[prefix + entry.name] = entry.read_bytes()


def _media_type(name: str) -> str:
    suffix = name[name.rfind(".") :]
    kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
