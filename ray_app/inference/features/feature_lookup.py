"""Look-ups for a micro-batch: stored rows and windows from the feature stage, in one call.

When the stage or a store fails, or what is stored is damaged, the look-up says `degraded`: answers must not depend on
it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from data.errors import StoreUnavailable
from data.online_store.row_codec import RowCodec
from ray_app.inference.stages import FeatureStage, FetchedRows, window_stage
from ray_app.monitoring.gateway_metrics import (
    DAMAGED_ROW,
    FEATURE_FETCH,
    STAGE_ERROR,
    STORE_UNAVAILABLE,
    GatewayMetrics,
)
from ray_app.prediction import Lookup, Row, RowWindows
from tune.registry.bundle import BundleManifest

logger = logging.getLogger(__name__)

_WARN_EVERY_S = 10.0
_MAX_DAMAGED_LOGGED = 20
"""Most damaged rows that one model version names in the log, so that a store full of them does not fill it."""

_NO_LOOKUP = Lookup()
_FAILED_LOOKUP = Lookup(degraded=True)


class FeatureLookup:
    """Looks up what rows have not sent, for one model version.

    Args:
        manifest: manifest of the model's bundle.
        features: the feature stage; None for a model without online features and windows.
        metrics: counts failed look-ups and observes the stage's duration.
        clock: returns the time in seconds since the epoch, for the age of stored rows.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        features: FeatureStage | None,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._features = features
        self._windows = window_stage(features) if manifest.windows else None
        self._metrics = metrics
        self._clock = clock
        self._ttl_s = manifest.entity.ttl_seconds if manifest.entity else None
        self._codec = RowCodec(manifest.schema_)
        online = {name: index for index, name in enumerate(self._codec.names)}
        self.stored_index = [online.get(name) for name in manifest.schema_.names]
        """For each feature, its index in a stored row; None for a feature that the store does not have."""
        self.online_columns = [(i, stored) for i, stored in enumerate(self.stored_index) if stored is not None]
        """Of each feature that the store has, its place in the schema and its index in a stored row."""
        self._next_warning = 0.0
        self._logged_damaged: set[str] = set()
        self._logged_errors: set[type[Exception]] = set()

    async def look_up(self, rows: Sequence[Row], budget_s: float) -> list[Lookup]:
        """Return one look-up per row, in order; rows that are events are recorded by it.

        Args:
            rows: rows that passed validation.
            budget_s: seconds that the stage may take.
        """
        if self._features is None:
            return [_NO_LOOKUP] * len(rows)
        incomplete = [i for i, row in enumerate(rows) if row.entity and self._needs_lookup(row)]
        lookups = [_NO_LOOKUP] * len(rows)
        if not incomplete and self._windows is None:
            return lookups
        keys = list(dict.fromkeys(rows[i].entity or "" for i in incomplete))
        started = time.perf_counter()
        fetched = await self._fetch(keys, rows, budget_s)
        self._metrics.stage(FEATURE_FETCH, time.perf_counter() - started)
        if isinstance(fetched.stored, Exception):
            found = [_FAILED_LOOKUP] * len(incomplete)
        else:
            found = self._of_stored([rows[i] for i in incomplete], keys, fetched.stored)
        for i, lookup in zip(incomplete, found, strict=True):
            lookups[i] = lookup
        if self._windows is None:
            return lookups
        return [self._with_windows(lookup, fetched, i) for i, lookup in enumerate(lookups)]

    def unpack(self, payload: bytes | None, now_us: float) -> Lookup:
        """Return the look-up that a stored row gives at a time; raises DamagedRow when it cannot be read."""
        online = self._codec.unpack(payload) if payload is not None else None
        if online is None:
            return Lookup(found=False)
        age = (now_us - online.event_us) / 1e6
        if self._ttl_s is not None and age > self._ttl_s:
            return Lookup(found=False)
        return Lookup(online, True, age)

    def _needs_lookup(self, row: Row) -> bool:
        return any(row.encoded[i] is None for i, _ in self.online_columns)

    async def _fetch(self, keys: Sequence[str], rows: Sequence[Row], budget_s: float) -> FetchedRows:
        """Ask the stage; what failed in any way is a StoreUnavailable, since answers must not depend on it."""
        try:
            fetched = await self._ask(keys, rows, budget_s)
        except Exception as exc:  # noqa: BLE001  a faulty feature stage must not become a 500 for the whole batch
            self._metrics.lookup_failed(STAGE_ERROR, len(keys) or len(rows))
            self._log_error(exc)
            failed = StoreUnavailable(str(exc))
            return FetchedRows(failed, failed)
        problems = [each for each in (fetched.stored, fetched.windows) if isinstance(each, StoreUnavailable)]
        if problems:
            self._metrics.lookup_failed(STORE_UNAVAILABLE, len(keys) or len(rows))
            self._warn(problems[0])
        return fetched

    async def _ask(self, keys: Sequence[str], rows: Sequence[Row], budget_s: float) -> FetchedRows:
        assert self._features is not None
        if self._windows is not None:
            queries = [row.query for row in rows if row.query is not None]
            fetched = await self._windows.fetch_rows(keys, queries, budget_s)
            _require_count(fetched.windows, len(rows), "windows")
        else:
            try:
                fetched = FetchedRows(await self._features.fetch(keys, budget_s), ())
            except StoreUnavailable as exc:
                fetched = FetchedRows(exc, ())
        _require_count(fetched.stored, len(keys), "keys")
        return fetched

    def _with_windows(self, lookup: Lookup, fetched: FetchedRows, at: int) -> Lookup:
        windows: RowWindows | None = None if isinstance(fetched.windows, Exception) else fetched.windows[at]
        if windows is None:
            return lookup._replace(degraded=True)
        if windows.damaged:
            self._metrics.lookup_failed(DAMAGED_ROW, 1)
        self._metrics.events(windows.outcomes)
        return lookup._replace(windows=windows, degraded=lookup.degraded or windows.damaged)

    def _of_stored(self, rows: Sequence[Row], keys: Sequence[str], payloads: Sequence[bytes | None]) -> list[Lookup]:
        """Return the look-up of each row from what was read of the keys."""
        if rows and rows[0].replayed_us is not None:
            held = dict(zip(keys, payloads, strict=True))
            return [self._unpack_alone(key, held[key], row.replayed_us or 0) for row in rows if (key := row.entity)]
        by_key = self._unpack_all(keys, payloads, self._clock() * 1e6)
        return [by_key[row.entity or ""] for row in rows]

    def _unpack_all(self, keys: Sequence[str], payloads: Sequence[bytes | None], now_us: float) -> dict[str, Lookup]:
        try:
            return {key: self.unpack(payload, now_us) for key, payload in zip(keys, payloads, strict=True)}
        except Exception:  # noqa: BLE001  unpacked again one by one, which finds the damaged row
            pairs = zip(keys, payloads, strict=True)
            return {key: self._unpack_alone(key, payload, now_us) for key, payload in pairs}

    def _unpack_alone(self, key: str, payload: bytes | None, now_us: float) -> Lookup:
        """Unpack one row; a damaged one is counted, logged and returned as a failed look-up."""
        try:
            return self.unpack(payload, now_us)
        except Exception as exc:  # noqa: BLE001  a stored row may hold any bytes
            self._metrics.lookup_failed(DAMAGED_ROW, 1)
            if key not in self._logged_damaged and len(self._logged_damaged) < _MAX_DAMAGED_LOGGED:
                self._logged_damaged.add(key)
                logger.error("the stored row of entity %r is damaged, materialize it again: %s", key, exc)
            return _FAILED_LOOKUP

    def _warn(self, exc: StoreUnavailable) -> None:
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY_S
            what = "windows and online features" if self._windows is not None else "online features"
            logger.warning("answering without %s: %s", what, exc)

    def _log_error(self, exc: Exception) -> None:
        if type(exc) not in self._logged_errors:
            self._logged_errors.add(type(exc))
            logger.error("feature fetch failed; further failures of this kind are counted, not logged", exc_info=exc)


def _require_count(answers: Sequence[object] | StoreUnavailable, count: int, of: str) -> None:
    if not isinstance(answers, StoreUnavailable) and len(answers) != count:
        raise RuntimeError(f"feature fetch returned {len(answers)} rows for {count} {of}")
