"""What is made from the table of words for readers elsewhere: a page of the documentation and a module in TypeScript.

`python -m dcao_proto.words REPOSITORY` writes both; a test says when they are not current.
"""

import json
import pathlib
import sys
from collections.abc import Mapping

from dcao_proto.policy.reasons import ACTIONS, CAUSES, NUMBERS, REASONS, REGIMES, SENTENCES, VALUES

_ABOUT = """\
# Reasons and regimes

<!-- Made by `python -m dcao_proto.words .` from proto/dcao_proto/policy/reasons.py: change that. -->

Every decision says why its values are what they are. The same sentences stand on the page, in `dcao show`, in the log
(logger `dcao`: at level `INFO` where something else drives a run than before, else at `DEBUG`) and in the TypeScript
client.

On the wire a decision has `reasons`, codes of the stages that changed or held a value, and `causes`, codes with the
numbers behind them:

```json
{"reasons": ["slew:lr"],
 "causes": [{"code": "batch-edge:lr", "numbers": {"ratio": 1.9}}, {"code": "slew:lr", "numbers": {"wanted": 0.73}}]}
```

> Batch sharpness is 1.9 × its edge: learning rate × 0.86, 0.1 → 0.086. The learning rate moves in limited steps towards
> × 0.73.

What stands in `[…]` is said where its number is known. Decisions from before there were causes have their reasons only,
and so has one that a client of another version made alone: a journal does not carry causes, a controller that decides
alike knows them itself.
"""
_POLICIES = """\
## Of your own policy

A policy says with `draft.because("my-law:lr", ratio=1.9)` what moved a value, and brings the sentence:

```python
Policy(…, sentences={"my-law:lr": "Noise is {ratio} × its aim: learning rate × {f}, {lr}."})
```

`GET /v1/policies` lists them, so `dcao show` has the sentence where the policy itself is not installed. A code without
one stands for itself. At most 16 causes a decision with 8 numbers each, 64 sentences a policy of 400 characters each; a
built-in code cannot be given another sentence. Metrics count a plug-in's reasons as `other`.
"""


def page() -> str:
    """docs/reasons.md."""
    parts = [
        _ABOUT,
        "## Regimes\n",
        _table(("regime", "what it says"), REGIMES),
        "## Advice\n",
        _table(("action", "what to do"), ACTIONS),
        "## What moves a value\n",
        _table(("code", "sentence"), CAUSES),
        "## What held or changed it besides\n",
        _table(("code", "sentence"), REASONS),
        "## Placeholders\n",
        _table(("placeholder", "stands for"), {f"{{{name}}}": words for name, words in {**VALUES, **NUMBERS}.items()}),
        _POLICIES,
    ]
    return "\n".join(parts)


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    cells = {code: text.replace("|", "\\|") for code, text in rows.items()}
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| `{code}` | {text} |" for code, text in cells.items())]
    return "\n".join(lines) + "\n"


def typescript() -> str:
    """client/typescript/src/reasons.ts."""
    head = "// Made by `python -m dcao_proto.words .` from proto/dcao_proto/policy/reasons.py: change that.\n"
    tables = {"SENTENCES": SENTENCES, "REGIMES": REGIMES, "ACTIONS": ACTIONS}
    return head + "".join(
        f"\nexport const {name}: Readonly<Record<string, string>> = "
        f"{json.dumps(table, ensure_ascii=False, indent=2)};\n"
        for name, table in tables.items()
    )


FILES = {"docs/reasons.md": page, "client/typescript/src/reasons.ts": typescript}

if __name__ == "__main__":
    for name, make in FILES.items():
        (pathlib.Path(sys.argv[1]) / name).write_text(make(), encoding="utf-8")
