"""The agent in each replica: reports its loaded versions to Control, and loads, drops and switches them as directed.

While Control does not answer, the replica serves what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from data.errors import ControlUnavailable, RayscoreError
from ray_app.control.messages import Directive, ReplicaReport
from ray_app.control.supervised_loop import SupervisedLoop
from tune.registry.traffic_rules import TrafficRules

logger = logging.getLogger("ray.serve")

_RETRY_S = 0.2
_FIRST_DIRECTIVE_S = 2.0
_FIRST_LOAD_S = 60.0


class ControlConnection(Protocol):
    """Calls from a replica to Control. Every method raises ControlUnavailable when Control does not answer."""

    async def next_directive(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Report, and wait up to a second for a directive other than `known` (id of the Control, seq); else None."""
        ...

    async def report(self, report: ReplicaReport) -> None:
        """Report without waiting."""
        ...

    async def bundle(self, digest: str) -> bytes | None:
        """Return a packed bundle, None when Control does not have it at hand."""
        ...


class VersionHolder(Protocol):
    """The loaded versions of a replica: `ModelVersions` in a gateway, else `ModelCache`."""

    @property
    def rules(self) -> TrafficRules: ...  # noqa: D102

    def held(self) -> dict[str, str]: ...  # noqa: D102

    def load(self, version: str, packed: bytes) -> Callable[[], None]: ...  # noqa: D102

    def drop(self, version: str) -> None: ...  # noqa: D102

    def switch(self, rules: TrafficRules) -> bool: ...  # noqa: D102


class ReplicaAgent:
    """Keeps the versions and rules of one replica as Control directs. Belongs to one event loop.

    Args:
        replica: the replica's id in Serve.
        kind: GATEWAY, MODEL, FUSED or EXPLANATION.
        contract: that every version here must have, see `BundleManifest.contract`.
        holder: the loaded versions.
        connection: the connection to Control.
        extras: further values of each report by name; each is called anew for every report.
    """

    def __init__(
        self,
        replica: str,
        kind: str,
        contract: str,
        holder: VersionHolder,
        connection: ControlConnection,
        extras: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._identity = (replica, kind, contract)
        self._holder = holder
        self._connection = connection
        self._extras = extras
        self._known = ("", -1)
        self._count = 0
        self._directive: Directive | None = None
        self._refused: dict[str, str] = {}
        self._thread = ThreadPoolExecutor(1, "load-version")
        self._loader: asyncio.Task[None] | None = None
        self.loop = SupervisedLoop("the exchange with Control", self._exchange)
        """The loop that exchanges reports and directives, with its count of failures and its health check."""

    async def start(self) -> None:
        """Load what Control directs, if it answers soon, and keep following it in the background.

        So a replica that replaces another holds the same versions as its siblings before the first call reaches it.
        """
        try:
            directive = await asyncio.wait_for(
                self._connection.next_directive(self.report(), self._known), _FIRST_DIRECTIVE_S
            )
            if directive is not None:
                self._act(directive)
        except (ControlUnavailable, asyncio.TimeoutError):
            pass
        except Exception:
            # It can serve what it was built with; the loop meets the same error, counts it, and tells the health check.
            logger.exception("the first exchange with Control failed")
        if self._loader is not None:
            await asyncio.wait([self._loader], timeout=_FIRST_LOAD_S)
        self.loop.start()

    async def stop(self) -> None:
        """Stop following Control, and any load that is under way."""
        await self.loop.stop()
        if self._loader is not None:
            self._loader.cancel()
            await asyncio.wait([self._loader])
        self._thread.shutdown(wait=False)

    def report(self) -> ReplicaReport:
        """Return the replica's report as of now."""
        self._count += 1
        extras = {name: value() for name, value in self._extras.items()}
        return ReplicaReport(
            *self._identity,
            self._count,
            self._known[1],
            self._holder.held(),
            self._holder.rules,
            dict(self._refused),
            extras,
        )

    async def _exchange(self) -> None:
        """Report, wait for a directive for as long as Control holds the call open, and act on it."""
        try:
            directive = await self._connection.next_directive(self.report(), self._known)
        except ControlUnavailable:
            await asyncio.sleep(_RETRY_S)
            return
        if directive is not None:
            self._act(directive)
        else:
            self._begin_loading()

    def _act(self, directive: Directive) -> None:
        self._directive = directive
        self._switch_and_drop()
        self._refused = {digest: why for digest, why in self._refused.items() if digest in directive.wanted.values()}
        self._begin_loading()
        # Last: Control repeats a directive until it is known, so one that failed half-way is tried again.
        self._known = (directive.control, directive.seq)

    def _begin_loading(self) -> None:
        """Load missing versions in a task, unless one runs; raise the unexpected error of the last task, if any."""
        ended = self._loader if self._loader is not None and self._loader.done() else None
        if ended is not None:
            self._loader = None
            ended.result()
        if self._loader is None and self._missing():
            self._loader = asyncio.get_running_loop().create_task(self._load())

    def _switch_and_drop(self) -> None:
        """Answer by the directive's rules as soon as all that they name is loaded, and drop what it does not want.

        The holder keeps what its own rules name: after a switch that had to wait for a load there is more to drop.
        """
        directive = self._directive
        if directive is None:
            return
        # A Control that has just restarted may direct rules that are older than those in force here.
        if directive.rules.epoch > self._holder.rules.epoch:
            self._holder.switch(directive.rules)
        for version in self._holder.held().keys() - directive.wanted.keys():
            self._holder.drop(version)

    def _wants(self, version: str, digest: str) -> bool:
        """True while this bundle is wanted: a directive that came while it was loaded may have withdrawn it."""
        return self._directive is not None and self._directive.wanted.get(version) == digest

    def _missing(self) -> list[tuple[str, str]]:
        wanted = self._directive.wanted if self._directive else {}
        held = self._holder.held()
        return [pair for pair in wanted.items() if held.get(pair[0]) != pair[1] and pair[1] not in self._refused]

    async def _load(self) -> None:
        """Load the missing versions, one after the other, with a report after each."""
        while missing := self._missing():
            version, digest = missing[0]
            try:
                packed = await self._connection.bundle(digest)
                if packed is None:
                    await asyncio.sleep(_RETRY_S)
                    continue
                install = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._holder.load, version, packed
                )
                if self._wants(version, digest):
                    install()
                    self._switch_and_drop()
            except ControlUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            except RayscoreError as exc:
                logger.warning("version %s does not load: %s", version, exc)
                self._refused[digest] = str(exc)
            except Exception as exc:
                # A library failed in its own way (memory, a broken graph): the change is refused, the replica goes on.
                logger.exception("version %s does not load", version)
                self._refused[digest] = repr(exc)
            try:
                await self._connection.report(self.report())
            except ControlUnavailable:
                logger.warning("Control does not answer: version %s is held and not reported yet", version)
