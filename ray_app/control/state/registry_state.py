"""Champion and traffic rules as the registry has them: what it asks for, and what is still to be written to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from data.errors import ConfigError
from ray_app.control.rule_change import ChangeConflict, ChangeRefused
from tune.registry.traffic_rules import TRAFFIC_TAG, Mode, TrafficRules, parse_rules

PREVIOUS_TAG = "rayscore.previous"
"""Tag of the registered model: the champion before the present one."""

NOT_ASKED = "not asked yet"
NO_CHAMPION = "the alias that is served stands for no version"
"""Problems that are not an error text of the registry."""

_ALIAS_LAG_S = 5.0
"""Tag and alias are not written at once: for so long a tag may name a champion that the alias does not name yet."""


class RegistrySnapshot(NamedTuple):
    """One reading of the registry: the version that the served alias points to (None without one), and the tags."""

    champion: str | None
    tags: Mapping[str, str]


class PendingWrites(NamedTuple):
    """What is to be written to the registry. `known` is the champion that its alias pointed to when last read."""

    champion: str | None
    tags: dict[str, str]
    known: str | None = None


class RegistryState:
    """The registry as it was read last, and the writes that it has not taken yet. Belongs to one event loop."""

    def __init__(self) -> None:
        self.registered: RegistrySnapshot | None = None
        self.problem: str | None = NOT_ASKED
        """Why champion and rules could not be read, None when they were."""
        self._acted_on: RegistrySnapshot | None = None
        self._early_since: float | None = None
        self._again_at: float | None = None
        self._tags: dict[str, str] = {}
        self._champion: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """The model's tags: as they were read last, or as they are still to be written."""
        return {**(self.registered.tags if self.registered else {}), **self._tags}

    def read(self, registered: RegistrySnapshot) -> None:
        """Take a reading of the registry."""
        self.registered = registered
        self.problem = None if registered.champion else NO_CHAMPION

    def retry_from(self, at: float) -> None:
        """From `at` on, request once more what the registry asks for: its bundles could not be fetched."""
        self._again_at = at

    def begin_retry(self, now: float) -> None:
        """Forget what was acted on once the time of `retry_from` has come, so that it is requested again."""
        # Writes go first: until they are done, what the registry has is older than what is in force.
        if self._again_at is not None and now >= self._again_at and self.pending_writes is None:
            self._acted_on = self._again_at = None

    def requested_rules(self, rules: TrafficRules, now: float) -> TrafficRules | None:
        """The rules that the registry asks for and did not ask for at the last reading, None for nothing new.

        Args:
            rules: those in force.
            now: monotonic seconds.

        Raises:
            ChangeConflict: its rules were made for others than those in force.
            ChangeRefused: its rules cannot be parsed, or name another champion than its alias does.
        """
        snapshot, before = self.registered, self._acted_on
        if snapshot is None or snapshot.champion is None:
            return None
        text = snapshot.tags.get(TRAFFIC_TAG)
        if before is None:
            return self._first_request(snapshot.champion, text, rules)
        moved, written = snapshot.champion != before.champion, text != before.tags.get(TRAFFIC_TAG)
        if not moved and not (written and text):
            self._acted_on = snapshot
            return None
        if moved and snapshot.champion != self._champion:
            # Somebody promoted another version meanwhile: the queued write would undo that.
            self._champion = None
        tagged = self._parse(snapshot, text) if written and text else None
        if tagged is not None and tagged.champion != snapshot.champion and self._early(now):
            return None
        self._acted_on, self._early_since = snapshot, None
        if tagged is None or (moved and tagged.champion != snapshot.champion):
            return with_champion(rules, snapshot.champion)
        if tagged.champion != snapshot.champion:
            raise ChangeRefused(
                f"tag {TRAFFIC_TAG} has version {tagged.champion} as champion, the alias stands for {snapshot.champion}"
            )
        if 0 < tagged.epoch <= rules.epoch:
            raise ChangeConflict(
                f"tag {TRAFFIC_TAG} has epoch {tagged.epoch}, and epoch {rules.epoch} is in force: read it anew"
            )
        return tagged

    def queue_write(self, tags: Mapping[str, str], champion: str | None = None) -> None:
        """Queue a write of tags and champion; it is retried until the registry takes it."""
        self._tags |= tags
        known = self.registered.champion if self.registered else None
        # With a champion still queued, a write may be under way: the last reading may be out of date, so write anyway.
        if champion is not None and (champion != known or self._champion is not None):
            self._champion = champion

    def queue_change(self, before: TrafficRules, after: TrafficRules) -> None:
        """Queue the write of rules that took the place of others, and of the champion where it is another."""
        self.queue_write({TRAFFIC_TAG: after.model_dump_json()})
        if before.champion != after.champion:
            self.queue_write({PREVIOUS_TAG: before.champion}, after.champion)

    def plain(self) -> dict[str, Any]:
        """The state as plain JSON."""
        writes = self.pending_writes
        return {
            "problem": self.problem,
            "champion": self.registered.champion if self.registered else None,
            "owed": [*writes.tags, *(["champion"] if writes.champion else [])] if writes else [],
        }

    @property
    def pending_writes(self) -> PendingWrites | None:
        """What is to be written, None when nothing is."""
        if not self._champion and not self._tags:
            return None
        return PendingWrites(self._champion, dict(self._tags), self.registered.champion if self.registered else None)

    def mark_written(self, written: PendingWrites) -> None:
        """Record that this was written, so that reading it back does not count as a change."""
        self._tags = {key: value for key, value in self._tags.items() if written.tags.get(key) != value}
        if written.champion == self._champion:
            self._champion = None
        self.registered = _with(self.registered, written)
        self._acted_on = _with(self._acted_on, written)

    def _first_request(self, champion: str, text: str | None, rules: TrafficRules) -> TrafficRules | None:
        """The rules that the registry asks for at the first reading; `rules` are those that replicas answer by."""
        assert self.registered is not None
        self._acted_on = self.registered
        tagged = self._parse(self.registered, text) if text else None
        if tagged is not None and tagged.champion == champion:
            # Rules newer than the tag were committed by the last Control, which ended before it wrote them.
            no_epoch = tagged.epoch == 0 and not same_rules(tagged, rules)
            return tagged if tagged.epoch > rules.epoch or no_epoch else None
        return with_champion(rules, champion) if champion != rules.champion else None

    def _parse(self, snapshot: RegistrySnapshot, text: str) -> TrafficRules:
        try:
            return parse_rules(json.loads(text), f"tag {TRAFFIC_TAG}")
        except (ValueError, ConfigError) as exc:
            self._acted_on, self._early_since = snapshot, None
            reason = str(exc) if isinstance(exc, ConfigError) else f"tag {TRAFFIC_TAG} is not JSON: {exc}"
            raise ChangeRefused(reason) from exc

    def _early(self, now: float) -> bool:
        self._early_since = self._early_since if self._early_since is not None else now
        return now - self._early_since < _ALIAS_LAG_S


def _with(registered: RegistrySnapshot | None, written: PendingWrites) -> RegistrySnapshot | None:
    if registered is None:
        return None
    return RegistrySnapshot(written.champion or registered.champion, {**registered.tags, **written.tags})


def with_champion(rules: TrafficRules, champion: str) -> TrafficRules:
    """The same rules with another champion, which is removed from the challengers."""
    others = tuple(each for each in rules.challengers if each.version != champion)
    return rules.model_copy(update={"champion": champion, "challengers": others})


def same_rules(one: TrafficRules, other: TrafficRules) -> bool:
    """True when both have the same champion and challengers, whatever their epochs and buckets."""

    def key(rules: TrafficRules) -> tuple[str, str, list[tuple[str, float, Mode]]]:
        return rules.use_case, rules.champion, [(c.version, c.weight, c.mode) for c in rules.challengers]

    return key(one) == key(other)
