"""Champion and traffic rules as the registry has them: what changed there, and what is still to be written to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from data.errors import ConfigError
from ray_app.control.rule_change import ChangeConflict, ChangeRefused
from tune.registry.traffic_rules import TRAFFIC_TAG, Mode, TrafficRules, parse_rules

PREVIOUS_TAG = "rayscore.previous"
"""Tag of the registered model: the champion before the present one."""

NOT_ASKED = "not asked yet"
NO_CHAMPION = "the alias that is served stands for no version"
"""Problems that are not an error text of the registry."""

_TOGETHER_S = 5.0
"""Tag and alias are written one after the other: a tag may name the next champion for so long before the alias does."""


class RegistrySnapshot(NamedTuple):
    """One reading of the registry: the version that the served alias stands for (None without one), and the tags."""

    champion: str | None
    tags: Mapping[str, str]


class PendingWrites(NamedTuple):
    """What is still to be written to the registry. `known` is the champion that its alias stood for when last read."""

    champion: str | None
    tags: dict[str, str]
    known: str | None = None


class RegistryState:
    """The registry as it was read last, and what is to be written to it."""

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

    def ask_again(self, at: float) -> None:
        """Note that what the registry asked for could not be fetched from it: it is news once more, from `at` on."""
        self._again_at = at

    def renew(self, now: float) -> None:
        """Let what could not be fetched be news, once its time has come."""
        # What is owed goes first: until it is written, the registry's word is older than what is in force.
        if self._again_at is not None and now >= self._again_at and self.owed is None:
            self._acted_on = self._again_at = None

    def news(self, rules: TrafficRules, now: float) -> TrafficRules | None:
        """The rules that the registry asks for and did not at the last reading, None for nothing new.

        Args:
            rules: those in force.
            now: the time.

        Raises:
            ChangeConflict: its rules were thought of for others than those in force.
            ChangeRefused: its rules are not readable, or name another champion than its alias does.
        """
        said, before = self.registered, self._acted_on
        if said is None or said.champion is None:
            return None
        text = said.tags.get(TRAFFIC_TAG)
        if before is None:
            return self._first(said.champion, text, rules)
        moved, written = said.champion != before.champion, text != before.tags.get(TRAFFIC_TAG)
        if not moved and not (written and text):
            self._acted_on = said
            return None
        if moved and said.champion != self._champion:
            # Somebody promoted after the champion here was changed: to write the older one would undo that.
            self._champion = None
        tagged = self._readable(said, text) if written and text else None
        if tagged is not None and tagged.champion != said.champion and self._early(now):
            return None
        self._acted_on, self._early_since = said, None
        if tagged is None or (moved and tagged.champion != said.champion):
            return following(rules, said.champion)
        if tagged.champion != said.champion:
            raise ChangeRefused(
                f"tag {TRAFFIC_TAG} has version {tagged.champion} as champion, the alias stands for {said.champion}"
            )
        if 0 < tagged.epoch <= rules.epoch:
            raise ChangeConflict(
                f"tag {TRAFFIC_TAG} has epoch {tagged.epoch}, and epoch {rules.epoch} is in force: read it anew"
            )
        return tagged

    def owe(self, tags: Mapping[str, str], champion: str | None = None) -> None:
        """Queue a write of tags and champion; it is tried again until the registry takes it."""
        self._tags |= tags
        known = self.registered.champion if self.registered else None
        # One that is still owed may be on its way: what the registry said last is then no reason to be silent.
        if champion is not None and (champion != known or self._champion is not None):
            self._champion = champion

    @property
    def owed(self) -> PendingWrites | None:
        """What is to be written, None when nothing is."""
        if not self._champion and not self._tags:
            return None
        return PendingWrites(self._champion, dict(self._tags), self.registered.champion if self.registered else None)

    def wrote(self, owed: PendingWrites) -> None:
        """Take note that this was written, so that reading it back is not taken for a change."""
        self._tags = {key: value for key, value in self._tags.items() if owed.tags.get(key) != value}
        if owed.champion == self._champion:
            self._champion = None
        self.registered = _with(self.registered, owed)
        self._acted_on = _with(self._acted_on, owed)

    def _first(self, champion: str, text: str | None, rules: TrafficRules) -> TrafficRules | None:
        """What the registry asks of a Control that has just started; `rules` are those that replicas answer by."""
        assert self.registered is not None
        self._acted_on = self.registered
        tagged = self._readable(self.registered, text) if text else None
        if tagged is not None and tagged.champion == champion:
            # Rules that are newer than the tag were committed, but not written before the last Control ended.
            unclaimed = tagged.epoch == 0 and not same(tagged, rules)
            return tagged if tagged.epoch > rules.epoch or unclaimed else None
        return following(rules, champion) if champion != rules.champion else None

    def _readable(self, said: RegistrySnapshot, text: str) -> TrafficRules:
        try:
            return parse_rules(json.loads(text), f"tag {TRAFFIC_TAG}")
        except (ValueError, ConfigError) as exc:
            self._acted_on, self._early_since = said, None
            reason = str(exc) if isinstance(exc, ConfigError) else f"tag {TRAFFIC_TAG} is not JSON: {exc}"
            raise ChangeRefused(reason) from exc

    def _early(self, now: float) -> bool:
        self._early_since = self._early_since if self._early_since is not None else now
        return now - self._early_since < _TOGETHER_S


def _with(registered: RegistrySnapshot | None, owed: PendingWrites) -> RegistrySnapshot | None:
    if registered is None:
        return None
    return RegistrySnapshot(owed.champion or registered.champion, {**registered.tags, **owed.tags})


def following(rules: TrafficRules, champion: str) -> TrafficRules:
    """The same rules with another champion, who is no challenger any more."""
    others = tuple(each for each in rules.challengers if each.version != champion)
    return rules.model_copy(update={"champion": champion, "challengers": others})


def same(one: TrafficRules, other: TrafficRules) -> bool:
    """True when both say the same, whatever their epochs."""

    def said(rules: TrafficRules) -> tuple[str, str, list[tuple[str, float, Mode]]]:
        return rules.use_case, rules.champion, [(c.version, c.weight, c.mode) for c in rules.challengers]

    return said(one) == said(other)
