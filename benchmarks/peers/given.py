"""Parameters of a peer, passed as environment variables, because frameworks import services in worker processes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

_PREFIX = "BENCHMARK_PEER_"


@dataclass(frozen=True)
class Given:
    """Files, HTTP port on the loopback address, and how many processes may score."""

    bundle: Path
    store: Path
    port: int
    processes: int = 1

    def environment(self) -> dict[str, str]:
        """The environment variables that `given` reads."""
        return {_PREFIX + name.upper(): str(value) for name, value in asdict(self).items()}


def given() -> Given:
    """Read the parameters of this process; raises KeyError when they are not set."""
    bundle, store, port, processes = (os.environ[_PREFIX + name] for name in ("BUNDLE", "STORE", "PORT", "PROCESSES"))
    return Given(Path(bundle), Path(store), int(port), int(processes))
