"""The OpenAPI document is a golden file: a change of the wire shows in a review.

To accept a change: `dcao-controller openapi --output proto/openapi.json`.
"""

import json
import re
from pathlib import Path

import pytest

from dcao_proto import ProblemKind, paths
from dcao_server.app import create_app
from dcao_server.settings import Settings

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "proto" / "openapi.json"
PAGE = ROOT / "docs" / "api.md"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return create_app(Settings(data=tmp_path_factory.mktemp("openapi"))).openapi()


def test_the_document_is_the_golden_one(document: dict[str, object]) -> None:
    assert json.loads(GOLDEN.read_text()) == document, __doc__


def test_every_path_of_the_protocol_is_in_it(document: dict[str, dict[str, object]]) -> None:
    named = {value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}
    expected = {path for path in named if path.startswith("/") and path not in (paths.V1, paths.OPENAPI)}
    assert expected == set(document["paths"])


def test_every_operation_declares_its_problems(document: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert isinstance(responses, dict)
            if path.startswith(paths.V1):
                assert {"401", "403", "429", "500"} <= responses.keys(), (method, path)
            for status, response in responses.items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def test_every_reference_leads_somewhere(document: dict[str, object]) -> None:
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    schemas = document["components"]["schemas"]  # type: ignore[index]
    assert names <= set(schemas)


def test_the_page_of_the_api_has_a_row_for_each_operation_and_no_other(
    document: dict[str, dict[str, dict[str, object]]],
) -> None:
    rows = re.findall(r"^\| `((?:GET|PUT|POST|DELETE) /[^`]*)` \|", PAGE.read_text(), re.MULTILINE)
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert sorted(rows) == sorted(operations)


def test_the_page_of_the_api_has_a_row_for_each_problem() -> None:
    expected = [
        f"| `{kind.slug}` | {kind.status} | {'yes' if kind.retryable else 'no'} | {kind.title} |"
        for kind in ProblemKind
    ]
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `[a-z-]+` \| \d{3} ", line)]
    assert rows == expected
