"""`demo`: generate data, train, promote, fill the online store, serve and predict, in one command.

Each step is the public command that a user would type, run as a child process. What an earlier run left is reused.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow.compute as pc

from data.cli.terminal import err
from data.distributed.child_process import PACKAGES, child_command
from data.errors import ConfigError, ModelNotFound, RayscoreError
from data.schema.feature import Source
from data.schema.use_case import UseCase, load_use_case
from data.settings import PREFIX, Settings
from data.sources.parquet import read_table
from ray_app.environment.listeners import bind_fault
from tune.registry.registry import Registry

_READY_TIMEOUT_S = 600.0
"""Only a bound: on a machine that is busy with other work a start took longer than two minutes."""
_STOP_TIMEOUT_S = 60.0


class DemoFailed(RayscoreError):
    """A step of the demo failed; the results of earlier steps are kept and reused by the next run."""


@dataclass(frozen=True)
class DemoOptions:
    """Transactions to generate and trials to search; `once` ends the demo after the predictions."""

    rows: int
    trials: int
    once: bool


@dataclass
class _Steps:
    """Runs the steps of the demo, numbers them on stderr and records the s that each took."""

    environment: dict[str, str]
    total: int
    done: list[tuple[str, float]] = field(default_factory=list)

    def run(self, title: str, command: Sequence[str], reuse: str | None = None) -> None:
        """Run `rayscore COMMAND` as a step, or say what is reused instead."""
        self._say(title)
        if reuse:
            err.print(f"      reused: {reuse}", markup=False)
            self.done.append((title, 0.0))
            return
        started = time.monotonic()
        err.print(f"      $ rayscore {shlex.join(command)}", markup=False, style="dim")
        with _child(child_command("ray_app.cli.rayscore", "main", *command), self.environment) as child:
            code = child.wait()
        if code:
            raise DemoFailed(f"step '{title}' ended with exit code {code}; its message is above")
        self.done.append((title, time.monotonic() - started))

    @contextmanager
    def timed(self, title: str) -> Iterator[None]:
        """Time a step that runs in this process."""
        self._say(title)
        started = time.monotonic()
        yield
        self.done.append((title, time.monotonic() - started))

    def _say(self, title: str) -> None:
        err.print(f"[{len(self.done) + 1}/{self.total}] {title}", markup=False, style="bold")


def run(settings: Settings, plan: DemoOptions) -> int:
    """Run the demo and return 0, after the predictions with `plan.once`, else when it is interrupted.

    Raises:
        ConfigError: the settings name another use case than card_fraud.
        DemoFailed: a step failed, the server ended by itself, or the HTTP port is taken.
    """
    _obey_signals()
    use_case = load_use_case(settings.use_case)
    if use_case.name != "card_fraud":
        raise ConfigError("the demo generates the card_fraud table; unset RAYSCORE_USE_CASE")
    _check_port(settings)
    folder = settings.var_dir / "demo"
    table, report = folder / f"transactions_{plan.rows}.parquet", folder / "validation.html"
    steps = _Steps(_environment(settings), total=7)
    _prepare(steps, settings, plan, use_case, table, report)
    # Without --app-dir `serve` imports from the working directory first, where a `data.py` may lie.
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "run", "--app-dir", str(PACKAGES), "ray_app:graph"]
    log = folder / "serve.log"
    with log.open("w") as output, _child(command, steps.environment, output) as server:
        with steps.timed("serve run ray_app:graph"):
            _wait_ready(settings, server, log)
        with steps.timed("predict"):
            _predict(settings, use_case, table)
        _summarize(settings, steps, report, log)
        if not plan.once:
            _keep_serving(server, log)
    return 0


def _prepare(
    steps: _Steps, settings: Settings, plan: DemoOptions, use_case: UseCase, table: Path, report: Path
) -> None:
    generate = ["generate", str(table), "--rows", str(plan.rows), "--end", "today"]
    steps.run("generate transactions", generate, f"{table}" if table.exists() else None)
    validate = ["validate", str(table), "--report", str(report)]
    steps.run("validate them", validate, f"{report}" if report.exists() else None)
    champion = _champion(settings, use_case)
    tune = ["tune", "--data", str(table), "--trials", str(plan.trials)]
    steps.run(f"tune XGBoost, {plan.trials} trials", tune, champion)
    steps.run("promote through the gates", ["promote"], champion)
    store = settings.sqlite_path if settings.store == "sqlite" else None
    stored = f"{store}" if champion and store is not None and store.exists() else None
    steps.run("materialize into the online store", ["materialize", str(table)], stored)


def _champion(settings: Settings, use_case: UseCase) -> str | None:
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    try:
        model = registry.resolve(use_case.name, settings.model_alias)
    except ModelNotFound:
        return None
    return f"{model.name} version {model.version} is {settings.model_alias}"


def _environment(settings: Settings) -> dict[str, str]:
    # Absolute, so that children and the Ray workers they start mean the same folder in any working directory.
    var_dir = {PREFIX + "VAR_DIR": str(settings.var_dir.absolute())}
    return {**os.environ, **var_dir, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _child(
    command: Sequence[str], environment: dict[str, str], output: Any = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process until the block ends.

    The child has a session of its own: otherwise the terminal would send it Ctrl-C, and `_end` a second time.
    """
    child = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    # SIGINT first, which `serve run` takes as Ctrl-C: it answers the requests under way and shuts Ray down.
    for number, timeout_s in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            err.print("      it does not stop; asking again, harder", markup=False)


def _obey_signals() -> None:
    """Make SIGTERM stop the demo as Ctrl-C does, and restore SIGINT.

    A script's shell starts background jobs with SIGINT ignored, and children inherit that: Ctrl-C would not end them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _check_port(settings: Settings) -> None:
    fault = bind_fault(settings.http_host, settings.http_port)
    if fault:
        raise DemoFailed(f"{fault}; set {PREFIX}HTTP_HOST and {PREFIX}HTTP_PORT to what is free here")


def _wait_ready(settings: Settings, server: subprocess.Popen[bytes], log: Path) -> None:
    _wait(lambda: _is_ready(settings), server, log, _READY_TIMEOUT_S)


def _wait(done: Callable[[], bool], server: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if server.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            what = "did not become ready" if server.poll() is None else f"ended with exit code {server.returncode}"
            raise DemoFailed(f"the server {what}; the end of {log}:\n{tail}")
        time.sleep(0.25)


def _is_ready(settings: Settings) -> bool:
    try:
        return httpx.get(f"{_url(settings)}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _predict(settings: Settings, use_case: UseCase, table: Path) -> None:
    for title, body in _requests(use_case, table):
        err.print(f"      {title}", markup=False)
        text = json.dumps(body)
        curl = f"curl -s {_url(settings)}/predict -H 'content-type: application/json' -d {shlex.quote(text)}"
        err.print(f"      $ {curl}", markup=False, style="dim")
        answer = httpx.post(f"{_url(settings)}/predict", json=body, timeout=10)
        err.print(f"      {answer.text}\n", markup=False)
        answer.raise_for_status()


def _requests(use_case: UseCase, table: Path) -> list[tuple[str, dict[str, Any]]]:
    """Titled request bodies: a fraud, an ordinary row, and an entity that is not in the online store."""
    entity = use_case.entity.column if use_case.entity else ""
    columns = [entity, *(f.name for f in use_case.features.values() if f.source is Source.REQUEST)]
    rows = read_table(table, [*columns, use_case.label])
    requests = []
    for title, label in (("a row that was fraud", 1), ("a row that was not", 0)):
        matching = rows.filter(pc.field(use_case.label) == label)
        requests.append((title, matching.select(columns).slice(matching.num_rows - 1, 1).to_pylist()[0]))
    unknown_card = {**requests[1][1], entity: "a_new_card"}
    return [*requests, ("the same from a card the store does not know", unknown_card)]


def _summarize(settings: Settings, steps: _Steps, report: Path, log: Path) -> None:
    url = _url(settings)
    err.print("summary", style="bold")
    for title, seconds in steps.done:
        err.print(f"      {seconds:7.1f} s  {title}", markup=False)
    err.print(f"      {sum(seconds for _, seconds in steps.done):7.1f} s  in all", markup=False)
    addresses = {
        "front page": f"{url}/",
        "API docs": f"{url}/docs",
        "console": f"{url}/console",
        "Ray dashboard": "http://127.0.0.1:8265",
        "validation report": str(report),
        "MLflow": f"{Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {settings.tracking_uri}",
        "server log": str(log),
    }
    for name, address in addresses.items():
        err.print(f"      {name + ':':<18} {address}", markup=False)


def _keep_serving(server: subprocess.Popen[bytes], log: Path) -> None:
    err.print("serving until Ctrl-C", style="bold")
    try:
        code = server.wait()
    except KeyboardInterrupt:
        err.print("stopping; requests under way are answered first", markup=False)
        return
    raise DemoFailed(f"the server ended by itself with exit code {code}; see {log}")


def _url(settings: Settings) -> str:
    return f"http://{settings.http_host}:{settings.http_port}"
