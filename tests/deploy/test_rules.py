"""Rules and alerts: they parse, each alert is proved to fire and to stay silent, and each says what to do."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promql import RULES, rules

ROOT = Path(__file__).resolve().parents[2]
UNIT_TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.test.yml"))
ALERTS = [rule for rule in rules() if "alert" in rule]


def cases() -> list[dict[str, Any]]:
    """Every alert assertion of every unit test."""
    tests = [test for path in UNIT_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_rules_file_is_well_formed(path: Path) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent_as_their_unit_tests_say(path: Path) -> None:
    tested = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(alert: dict[str, Any]) -> None:
    about = [case for case in cases() if case["alertname"] == alert["alert"]]
    assert [case for case in about if case["exp_alerts"]], "no unit test in which it fires"
    assert [case for case in about if not case["exp_alerts"]], "no unit test in which it stays silent"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_what_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description", "runbook_url"} <= set(alert["annotations"])
    runbook = (ROOT / alert["annotations"]["runbook_url"]).read_text()
    assert alert["alert"] in runbook, "the runbook does not name the alert that leads to it"
    for section in ("## What it means", "## What to look at", "## What to do"):
        assert section in runbook, section


def test_every_runbook_is_linked_from_an_alert() -> None:
    linked = {alert["annotations"]["runbook_url"] for alert in ALERTS}
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages - {"docs/runbooks/README.md"} == linked
