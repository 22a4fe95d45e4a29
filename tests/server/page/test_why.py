"""Why a value moved, on the page: the words of everywhere, the curve that drove it, the factor beside the schedule."""

import json
from pathlib import Path

from playwright.sync_api import Browser

from dcao_proto import Decision
from dcao_proto.policy.reasons import REGIMES
from dcao_proto.policy.why import why
from tests.components.controller import Controller
from tests.components.worker import BASE, Worker
from tests.server.page.browser import Visit, visiting

VECTORS = Path(__file__).parents[3] / "proto" / "vectors"
SCALE = """async ([spec, records, title]) => {
  const { Series } = await import("/static/js/series.js");
  const { Charts } = await import("/static/js/charts.js");
  const series = new Series(spec);
  for (const record of records) series.add(record);
  const charts = new Charts(series, { onInspect: () => {}, onView: () => {} });
  document.querySelector("main").replaceChildren(charts.element);
  charts.start();
  await new Promise((done) => setTimeout(done, 200));
  const chart = charts.charts.find((one) => one.options.title === title);
  const { min, max } = chart.u.scales.y;
  charts.destroy();
  return [min, max];
}"""


def records(worker: Worker) -> list[dict[str, object]]:
    found = worker.client.get(f"{worker.path}/decisions").json()["records"]
    assert isinstance(found, list)
    return found


def test_the_page_says_it_in_the_very_same_words(visit: Visit) -> None:
    """Every decision of every policy's vectors, after the one before it, as Python says it."""
    visit.open()
    visit.wait_for_text("tbody", "resnet18")
    pairs = []
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            steps = [{"causes": [], **step["decision"]} for step in case["steps"]]
            pairs += [
                (before and {**before, "decay": before["weight_decay"]}, {**now, "decay": now["weight_decay"]})
                for before, now in zip([None, *steps], steps, strict=False)
            ]
    said = visit.page.evaluate(
        """async (pairs) => {
          const { why } = await import("/static/js/why.js");
          return pairs.map(([before, entry]) => why(entry, before).map(([, sentence]) => sentence));
        }""",
        pairs,
    )
    for (before, now), sentences in zip(pairs, said, strict=True):
        known = [
            None if d is None else Decision.model_validate({k: v for k, v in d.items() if k != "decay"})
            for d in (now, before)
        ]
        assert known[0] is not None
        assert tuple(sentences) == why(known[0], known[1])


def test_no_schedule_hides_the_sharpness(browser: Browser, served: Controller) -> None:
    """Under a rate that decays by ten million the edge is far above ρ; ρ, and one probe near 0, are in sight whole."""
    worker = Worker(served.url, "why", "decayed", policy={"name": "constant"})
    rhos = [4.0, 2.0, 1e-3, 3.0, 5.0]
    for i, rho in enumerate(rhos):
        worker.observe(rho=rho, base={**BASE, "lr": 0.1 * 10.0 ** (-7 * i / 4)})
    with visiting(browser, served.url) as visit:
        visit.open()
        visit.wait_for_text("tbody", "decayed")
        spec = worker.client.get(worker.path).json()["spec"]
        low, high = visit.page.evaluate(SCALE, [spec, records(worker), "Sharpness"])
        assert low <= min(rhos)
        assert high >= max(rhos)
        assert high <= 2000 * max(rhos)  # and the edge does not press it flat either


def test_the_curve_that_drove_a_decision_is_on_the_chart(browser: Browser, served: Controller) -> None:
    """Where batch sharpness decides, its edge ratio is drawn without being asked for, and its curve is whole."""
    policy = {"name": "edge", "params": {"reference": "nearest_edge"}}
    worker = Worker(served.url, "why", "batch", policy=policy)
    for batch in (1.0, 3.8, 400.0):
        decision = worker.observe(rho=1.0, batch_sharpness=batch)
    assert decision["causes"][0]["code"] == "batch-edge:lr"
    with visiting(browser, served.url) as visit:
        visit.open("#/why/batch")
        visit.wait_for_text(".in-sight", "3 decisions in sight")
        chart = visit.page.locator(".chart").filter(has=visit.page.get_by_role("heading", name="Edge ratio"))
        assert chart.get_by_role("button", name="for small batches").get_attribute("aria-pressed") == "true"
        assert "Batch sharpness is 200 × its edge" in visit.text(".decisions")
        spec = worker.client.get(worker.path).json()["spec"]
        low, high = visit.page.evaluate(SCALE, [spec, records(worker), "Sharpness"])
        assert low <= 1.0
        assert high >= 400.0
        assert visit.errors == []


def test_the_schedule_and_the_factor_are_two_curves(browser: Browser, served: Controller) -> None:
    """Of a cosine one sees what the user asked for, and apart from it what became of it."""
    worker = Worker(served.url, "why", "cosine", policy={"name": "edge"})
    for lr in (0.1, 0.05, 0.01):
        decision = worker.observe(rho=100.0, base={**BASE, "lr": lr})
    with visiting(browser, served.url) as visit:
        visit.open("#/why/cosine")
        visit.wait_for_text(".in-sight", "3 decisions in sight")
        rate = visit.page.locator(".chart").filter(has=visit.page.get_by_role("heading", name="Learning rate"))
        assert rate.get_by_role("button", name="your schedule").locator("b").inner_text() == "0.01"
        factors = visit.page.locator(".chart").filter(has=visit.page.get_by_role("heading", name="Factors"))
        shown = factors.get_by_role("button", name="η ÷ schedule").locator("b").inner_text()
        assert float(shown) == round(decision["multipliers"]["lr"], 3)


def test_the_glossary_of_regimes_is_a_click_away(visit: Visit) -> None:
    """Every regime with the sentence of the table; the newest one's is on its pill too."""
    visit.open("#/vision/resnet18")
    visit.wait_for_text(".in-sight", "60 decisions in sight")
    assert not visit.page.locator(".glossary dl").is_visible()
    visit.page.locator(".glossary summary").click()
    words = visit.text(".glossary dl")
    assert all(name in words and sentence in words for name, sentence in REGIMES.items())
    pill = visit.page.locator(".gauge-row .pill")
    assert pill.get_attribute("title") == REGIMES[pill.inner_text()]
    assert visit.errors == []


def test_a_decision_from_before_there_were_causes_is_read_as_it_was(visit: Visit) -> None:
    """Its reasons make whole sentences without a number."""
    visit.open()
    visit.wait_for_text("tbody", "resnet18")
    said = visit.page.evaluate(
        """async () => {
          const { why } = await import("/static/js/why.js");
          const multipliers = { lr: 1, momentum: 1, weight_decay: 1 };
          const old = { lr: 0.1, momentum: 0.9, decay: 0, version: 2, multipliers,
            causes: [], reasons: ["held:residual", "slew:lr", "a-plug-in:lr"] };
          return why(old).map(([, sentence]) => sentence);
        }"""
    )
    assert said == [
        "The probe's Ritz bound on ρ is too wide; the values stay.",
        "The learning rate moves in limited steps.",
        "a-plug-in:lr",
    ]
