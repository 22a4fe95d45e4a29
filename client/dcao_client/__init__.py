"""DCAO's client: measure the curvature of a training run, ask the controller, apply what it says.

`attach` for a torch loop, `DCAO` as an optimizer, `Session` to bring your own loop. Torch is imported only when one of
the first two is asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dcao_client.errors import DcaoError, RefusedError, UnreachableError
from dcao_client.extras import missing_extra

if TYPE_CHECKING:
    from dcao_client.hooks.attachment import Attachment
    from dcao_client.hooks.optimizer import DCAO
    from dcao_client.hooks.torch_loop import attach
    from dcao_client.session import Session
    from dcao_client.spectrum import MicroBatches

__all__ = ["DCAO", "Attachment", "DcaoError", "MicroBatches", "RefusedError", "Session", "UnreachableError", "attach"]


_WHERE = {
    "DCAO": "hooks.optimizer",
    "Attachment": "hooks.attachment",
    "MicroBatches": "spectrum.batches",
    "Session": "session",
    "attach": "hooks.torch_loop",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dcao")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    named = f"{__name__}.{name}"
    with missing_extra("httpx", named, extra="client"), missing_extra("torch", named):
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
