"""The report: one list of parts, written as Markdown and as one HTML file with its pictures in it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcao_experiments.methods import METHODS
from dcao_experiments.report import tables
from dcao_experiments.report.measures import GOALS, Measured, measured, one_setting, score
from dcao_experiments.report.pictures import curves, profiles
from dcao_experiments.report.words import claims, findings, ranking
from dcao_experiments.suites import Suite

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left; white-space: nowrap }
svg { max-width: 100%; height: auto }
code { background: #f4f4f4; padding: 0 .2em }
"""


@dataclass
class Part:
    """A heading, sentences, a table and a picture; each of the last three may be missing."""

    title: str
    sentences: list[str] = field(default_factory=list)
    header: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    picture: str = ""  # an SVG element
    text: str = ""  # Markdown that is already a table


def report(suite: Suite, records: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]] = ()) -> list[Part]:
    """The parts of a suite's report.

    Args:
        suite: whose records these are.
        records: of its file.
        beside: of the suite `law`, whose tuned cosines the suite `trust` is measured against.
    """
    parts = [_where(suite, records)]
    if suite.report == "rates":
        parts.append(Part("Base rates", text=tables.rate_table(records, beside)))
    elif suite.report == "settings":
        parts.append(Part("Settings", text=tables.plain_table(records)))
    else:
        parts += _methods(records)
        if any(r["method"] == "dcao" for r in records if "error" not in r):
            parts.insert(1, Part("Ours, cosines and peers", text=tables.final_table(records)))
    failed = sorted({(r["workload"], r["method"], r["error"]) for r in records if "error" in r})
    if failed:
        parts.append(Part("What failed", header=("workload", "method", "error"), rows=list(failed)))
    return parts


def _where(suite: Suite, records: Sequence[dict[str, Any]]) -> Part:
    trained = [r for r in records if "error" not in r]
    hours = sum(r["seconds"] for r in trained) / 3600
    seeds = sorted({r["seed"] for r in trained})
    made = sorted({_made_with(r) for r in trained})
    return Part(
        f"Suite {suite.name}",
        [
            f"{suite.about.capitalize()}.",
            f"{len(trained)} runs, seeds {', '.join(map(str, seeds)) or 'none'}, {hours:.1f} core hours.",
            f"`dcao experiment run --suite {suite.name}` goes on with it, and "
            f"`dcao experiment report --suite {suite.name}` writes this.",
            *(f"Recorded with {line}." for line in made),
        ],
    )


def _made_with(record: dict[str, Any]) -> str:
    commit = record["commit"] or "no commit"
    return f"torch {record['torch']}, Python {record['python']}, {record['machine']}, {commit}"


def _methods(records: Sequence[dict[str, Any]]) -> list[Part]:
    found = measured(records)
    alike = ", ".join(f"`{name}`" for name in sorted(score(found)) if one_setting(name)) or "none"
    parts = [
        Part(
            "What was found",
            [
                "Differences are paired: the same workload and seed. In brackets a 95 % bootstrap interval; where it "
                "holds 0, the two are not told apart.",
                *findings(found),
            ],
        ),
        Part("The proposal's expectations (§3)", header=("expected", "found", "holds"), rows=list(claims(found))),
        Part(
            "Score over all workloads",
            [
                "Area under the performance profile of steps to 99 % of the tuned cosine's way, 1 is best. "
                f"{ranking(found)}.",
                f"One setting for all workloads: {alike}; the others had the best of five rates on each.",
            ],
            picture=profiles(found),
        ),
    ]  # fmt: skip
    for workload, methods in found.items():
        mine = [r for r in records if r["workload"] == workload and "error" not in r]
        parts.append(_workload(workload, methods, mine))
    return parts


def _workload(workload: str, methods: Mapping[str, Measured], records: Sequence[dict[str, Any]]) -> Part:
    lower = next(iter(methods.values())).lower_is_better
    order = sorted(methods.values(), key=lambda m: m.mean if lower else -m.mean)
    header = (
        "method", "final loss" if lower else "final accuracy", "rate", *(f"steps to {g:.0%}" for g in GOALS),
        f"CPU s to {GOALS[-1]:.0%}", "loss variance", "past the edge", "measuring",
    )  # fmt: skip
    return Part(workload, header=header, rows=[_row(m) for m in order], picture=curves(methods, records))


def _row(m: Measured) -> Sequence[str]:
    return (
        f"`{m.method}`", f"{m.mean:.3f} ± {m.spread / math.sqrt(len(m.finals)):.3f}",
        f"{m.rate:.3g}" if METHODS[m.method].tuned else "–", *(_share(m.steps[g]) for g in GOALS),
        "never" if math.isinf(m.seconds[GOALS[-1]]) else f"{m.seconds[GOALS[-1]]:.1f}",
        "–" if m.loss_variance is None else f"{m.loss_variance:.2g}",
        "–" if m.past_the_edge is None else f"{m.past_the_edge:.0%}", f"{m.overhead:.1%}",
    )  # fmt: skip


def _share(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0%}"


def as_markdown(parts: Sequence[Part], pictures: Mapping[str, str]) -> str:
    """The report; `pictures` says where each part's picture lies, by its title."""
    lines: list[str] = []
    for level, part in enumerate(parts):
        lines += [f"{'#' if level == 0 else '##'} {part.title}", ""]
        lines += [f"{line}\n" for line in part.sentences]
        if part.rows:
            lines += ["| " + " | ".join(part.header) + " |", "|---" * len(part.header) + "|"]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in part.rows]
            lines.append("")
        lines += [part.text, ""] if part.text else []
        if part.title in pictures:
            lines += [f"![{part.title}]({pictures[part.title]})", ""]
    return "\n".join(lines)


def as_html(parts: Sequence[Part]) -> str:
    """One file that needs no network: style and pictures are in it. What records say is escaped."""
    body = []
    for level, part in enumerate(parts):
        tag = "h1" if level == 0 else "h2"
        body.append(f"<{tag}>{html.escape(part.title)}</{tag}>")
        body += [f"<p>{_inline(line)}</p>" for line in part.sentences]
        if part.rows:
            body.append(_table(part.header, part.rows))
        if part.text:
            body.append(_from_markdown(part.text))
        body.append(part.picture)
    title = html.escape(parts[0].title) if parts else "Report"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )


def _inline(text: str) -> str:
    pieces = html.escape(text).split("`")
    return "".join(piece if i % 2 == 0 else f"<code>{piece}</code>" for i, piece in enumerate(pieces))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _from_markdown(text: str) -> str:
    """A Markdown table and the sentences after it."""
    lines = text.splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    after = [line for line in lines if line.strip() and not line.startswith("|")]
    return (_table(cells[0], cells[2:]) if cells else "") + "".join(f"<p>{_inline(line)}</p>" for line in after)
