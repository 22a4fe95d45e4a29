"""Weights from a checkpoint file, as trainers write them."""

from pathlib import Path
from typing import Any

import torch


def read_weights(path: Path) -> Any:
    """A state dict from a file, also from under the keys that trainers use; nothing in it is executed."""
    held = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            return held[key]
    return held
