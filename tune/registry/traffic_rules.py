"""Traffic rules: which version of a model answers for which entity, and which versions are shadows.

One declarative object, held in a file, in the registry and in every gateway. An entity hashes to one of 10,000 buckets;
each live challenger owns some buckets, the champion the rest. Ownership is part of the rules, so that raising a weight
moves entities to that version only and leaves all others with the model that they have.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.errors import ConfigError, faults

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHALLENGER = "challenger"
"""Alias of the version published last."""
CHAMPION = "champion"
"""Alias of the version that serves; set by a promotion only."""
TRAFFIC_TAG = "rayscore.traffic"
"""Tag of the registered model: the rules as JSON."""

BUCKETS = 10_000
_PER_PERCENT = BUCKETS // 100

Thing = TypeVar("Thing")

Range = tuple[Annotated[int, Field(ge=0, lt=BUCKETS)], Annotated[int, Field(gt=0, le=BUCKETS)]]
"""Range of buckets: first, and end (exclusive)."""
Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]
"""Number of a registered version."""


class Mode(str, Enum):
    """What a challenger's traffic is used for."""

    LIVE = "live"
    """It answers the requests."""
    SHADOW = "shadow"
    """It scores them too, after the answer was sent, and is compared."""


class Challenger(BaseModel):
    """A version that serves beside the champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    weight: Annotated[float, Field(ge=0, le=100)]
    """Share of the entities, in percent, to a hundredth."""
    mode: Mode = Mode.LIVE
    buckets: tuple[Range, ...] = ()
    """Buckets that the version owns; assigned by `TrafficRules.after`, none for a shadow."""


class TrafficRules(BaseModel):
    """Champion and challengers of one use case; `epoch` is the number of the change that made these rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_case: str
    champion: Version
    challengers: tuple[Challenger, ...] = ()
    epoch: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _sound(self) -> TrafficRules:
        versions = [self.champion, *(c.version for c in self.challengers)]
        twice = sorted({version for version in versions if versions.count(version) > 1})
        if twice:
            raise ValueError(f"version {twice[0]} is named twice")
        total = sum(c.weight for c in self.challengers if c.mode is Mode.LIVE)
        if total > 100 + 1e-9:
            raise ValueError(f"the live challengers' weights sum to {total:g} %, at most 100 are there to give")
        owned = sorted(owned_range for c in self.challengers for owned_range in c.buckets)
        if any(start >= stop for start, stop in owned) or any(a[1] > b[0] for a, b in pairwise(owned)):
            raise ValueError("a range of buckets is empty, or owned by two")
        return self

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version in the rules, the champion first."""
        return (self.champion, *(c.version for c in self.challengers))

    @property
    def shadows(self) -> tuple[Challenger, ...]:
        """The challengers in shadow mode."""
        return tuple(c for c in self.challengers if c.mode is Mode.SHADOW)

    def owners(self) -> list[str]:
        """Return the version that answers for each bucket.

        A row's version is `owners()[bucket(key)]`; its key is the entity, or the request id without one.
        """
        return self.dealt({version: version for version in self.versions})

    def dealt(self, things: Mapping[str, Thing]) -> list[Thing]:
        """Return, for each bucket, the object of `things` that belongs to the version that answers for it."""
        owners = [things[self.champion]] * BUCKETS
        for challenger in self.challengers:
            for start, stop in challenger.buckets:
                owners[start:stop] = [things[challenger.version]] * (stop - start)
        return owners

    def after(self, before: TrafficRules | None) -> TrafficRules:
        """Return these rules as the successor of `before`: the next epoch, with buckets assigned.

        No more entities change their version than the weights demand.
        """
        # On ranges, of which there are few, not on 10,000 buckets: this runs on Control's event loop.
        owned = {c.version: c.buckets for c in before.challengers} if before else {}
        kept = {c.version: _split(owned.get(c.version, ()), _count(c))[0] for c in self.challengers}
        free, dealt = _gaps(kept_range for have in kept.values() for kept_range in have), []
        for challenger in self.challengers:
            have = kept[challenger.version]
            more, free = _split(free, _count(challenger) - sum(stop - start for start, stop in have))
            dealt.append(challenger.model_copy(update={"buckets": _joined([*have, *more])}))
        epoch = before.epoch + 1 if before else max(self.epoch, 1)
        return self.model_copy(update={"challengers": tuple(dealt), "epoch": epoch})


def bucket(key: str) -> int:
    """Return the bucket of a key, 0 to BUCKETS - 1; the same on every machine and in every release."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % BUCKETS


def load_rules(path: str | Path) -> TrafficRules:
    """Read rules from a TOML or JSON file.

    Raises:
        ConfigError: the file is missing or half written, or a key or value is wrong; the message says which.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        decoded: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{file}: not readable as {'JSON' if file.suffix == '.json' else 'TOML'}: {exc}") from exc
    return parse_rules(decoded, str(file))


def parse_rules(decoded: Any, where: str) -> TrafficRules:
    """Validate decoded rules; raises ConfigError that names their origin `where` and the wrong key."""
    try:
        return TrafficRules.model_validate(decoded)
    except ValidationError as exc:
        raise ConfigError(f"{where}: {faults(exc)[0]}") from exc


def _count(challenger: Challenger) -> int:
    return round(challenger.weight * _PER_PERCENT) if challenger.mode is Mode.LIVE else 0


def _split(ranges: Sequence[Range], count: int) -> tuple[list[Range], list[Range]]:
    """Split ranges into the first `count` buckets and the rest."""
    first, others = [], []
    for start, stop in ranges:
        cut = min(stop, start + count)
        count -= cut - start
        first += [(start, cut)] if start < cut else []
        others += [(cut, stop)] if cut < stop else []
    return first, others


def _gaps(ranges: Iterable[Range]) -> list[Range]:
    """Return the buckets that are in none of the ranges."""
    edges = [0, *(edge for taken in sorted(ranges) for edge in taken), BUCKETS]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return the same buckets as ascending, merged ranges."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return tuple(joined)
