"""What holds for every request, below the routes: `install` puts it around an application.

Pure ASGI throughout; the runner and its protocol are in `runner` and `protocol`.
"""

from dcao_server.asgi.install import install
from dcao_server.asgi.lifecycle import Lifecycle

__all__ = ["Lifecycle", "install"]
