"""Points at which a test can make the process die or fail: `failpoint("claim:committed")`.

The variable CESAR_FAILPOINT specifies a point, an action and optionally the pass at which it happens:
`claim:committed=kill` or `checkpoint:begun=raise@3`. Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP),
`raise` (an OSError), `exit`. Without the variable a failpoint does nothing.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

_wanted, _, _action = os.environ.get("CESAR_FAILPOINT", "").partition("=")
_action, _, _pass = _action.partition("@")
_passes: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Perform the action in CESAR_FAILPOINT if it names this point."""
    if not _wanted or name != _wanted:
        return
    _passes[name] += 1
    if _passes[name] != int(_pass or 1):
        return
    match _action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            signal.raise_signal(signal.SIGSTOP)  # with os.kill, another thread may receive it while this one continues
        case "raise":
            raise OSError(errno.EIO, f"failpoint {name}")
        case "exit":
            os._exit(3)
