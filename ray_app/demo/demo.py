"""`demo`: generate data, train, promote, fill the stores, serve, predict and prove it, in one command.

Each step is the public command that a user would type, run as a child process. What an earlier run left is reused.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

from data.cli.terminal import err
from data.distributed.child_process import PACKAGES
from data.errors import ConfigError, ModelNotFound
from data.schema.use_case import UseCase, load_use_case
from data.settings import PREFIX, Settings
from data.sources.synthetic.generators import GENERATORS
from ray_app.demo.example_requests import send_examples
from ray_app.demo.steps import DemoFailed, Steps, child_process, wait_for_server
from ray_app.environment.listeners import bind_fault
from tune.registry.registry import Registry

_READY_TIMEOUT_S = 600.0
"""Only a bound: on a machine that is busy with other work a start took longer than two minutes."""
_SERVED_STEPS = 3
"""Start of the service, requests, proof."""


@dataclass(frozen=True)
class DemoOptions:
    """Rows to generate and trials to search; `once` ends the demo after the proof."""

    rows: int | None
    """None for the default of the use case."""
    trials: int
    once: bool


_ROWS, _ROWS_WITH_WINDOWS = 20_000, 100_000
"""Windows over events need a longer history to tell anything."""
_PROVEN_ROWS = 2_000


def run(settings: Settings, plan: DemoOptions) -> int:
    """Run the demo and return 0, after the proof with `plan.once`, else when it is interrupted.

    Raises:
        ConfigError: the settings name a use case whose table cannot be generated.
        DemoFailed: a step failed, the server ended by itself, or the HTTP port is taken.
    """
    _obey_signals()
    use_case = load_use_case(settings.use_case)
    if use_case.name not in GENERATORS:
        raise ConfigError(
            f"the demo cannot generate a table for '{use_case.name}'; choose one of: {', '.join(GENERATORS)} "
            f"(--use-case, or {PREFIX}USE_CASE); with a table of your own, follow the README"
        )
    _check_port(settings)
    folder, rows = settings.var_dir / "demo", plan.rows or (_ROWS_WITH_WINDOWS if use_case.windows else _ROWS)
    table = folder / f"{GENERATORS[use_case.name].rows}_{rows}.parquet"
    report = folder / f"validation_{use_case.name}.html"
    prepared = _preparation(settings, plan, use_case, table, report, rows)
    steps = Steps(_environment(settings), total=len(prepared) + _SERVED_STEPS)
    for step in prepared:
        steps.run(step.title, step.command, step.reuse())
    # Without --app-dir `serve` imports from the working directory first, where a `data.py` may lie.
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "run", "--app-dir", str(PACKAGES), "ray_app:graph"]
    log = folder / "serve.log"
    with log.open("w") as output, child_process(command, steps.environment, output) as server:
        with steps.timed("serve run ray_app:graph"):
            wait_for_server(lambda: _is_ready(settings), server, log, _READY_TIMEOUT_S)
        with steps.timed("predict"):
            send_examples(_url(settings), use_case, table)
        steps.run(*_proof(settings, use_case, table, rows))
        _summarize(settings, steps, report, log)
        if not plan.once:
            _keep_serving(server, log)
    return 0


class _Step(NamedTuple):
    """A command of the preparation, and what an earlier run left of it."""

    title: str
    command: list[str]
    reuse: Callable[[], str | None]
    """Asked when the step's turn comes; None where it has to run."""


def _preparation(
    settings: Settings, plan: DemoOptions, use_case: UseCase, table: Path, report: Path, rows: int
) -> list[_Step]:
    generate = ["generate", str(table), "--use-case", use_case.name, "--rows", str(rows), "--end", "today"]
    validate = ["validate", str(table), "--report", str(report)]
    tune = ["tune", "--data", str(table), "--trials", str(plan.trials)]
    champion = _champion(settings, use_case)
    steps = [
        _Step(f"generate {GENERATORS[use_case.name].rows}", generate, partial(_existing, table)),
        _Step("validate them", validate, partial(_existing, report)),
        _Step(f"tune XGBoost, {plan.trials} trials", tune, lambda: champion),
        _Step("promote through the gates", ["promote"], lambda: champion),
    ]
    local = champion and settings.store == "sqlite"
    if use_case.schema_.online:
        stored = partial(_existing, settings.sqlite_path if local else None)
        steps.append(_Step("materialize into the online store", ["materialize", str(table)], stored))
    if use_case.windows:
        known = partial(_existing, settings.events_path if local else None)
        steps.append(_Step("ingest the events of the windows", ["ingest", str(table)], known))
    return steps


def _existing(path: Path | None) -> str | None:
    return str(path) if path is not None and path.exists() else None


def _proof(settings: Settings, use_case: UseCase, table: Path, rows: int) -> tuple[str, list[str]]:
    """Title and command of the proof: in time where a row's features follow from what came before it."""
    if use_case.schema_.online or use_case.windows:
        prove = ["skew", "--in-time", "--url", _url(settings), "--data", str(table)]
        return "prove that live answers are as the model card says", prove
    # Of the holdout, of which rows of equal keys or the order of time may leave a little less than its share.
    wanted = max(min(_PROVEN_ROWS, int(rows * use_case.split.holdout / 2)), 1)
    prove = ["skew", "--url", _url(settings), "--rows", str(wanted)]
    return "prove that the service answers as training computes", prove


def _champion(settings: Settings, use_case: UseCase) -> str | None:
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    try:
        model = registry.resolve(use_case.name, settings.model_alias)
    except ModelNotFound:
        return None
    return f"{model.name} version {model.version} is {settings.model_alias}"


def _environment(settings: Settings) -> dict[str, str]:
    # Absolute, so that children and the Ray workers they start mean the same folder in any working directory.
    var_dir = {PREFIX + "VAR_DIR": str(settings.var_dir.absolute()), PREFIX + "USE_CASE": settings.use_case}
    # The proof asks the service for answers from scratch stores, which only the bearer of this token may.
    token = {} if settings.events_token else {PREFIX + "EVENTS_TOKEN": secrets.token_urlsafe(24)}
    return {**os.environ, **var_dir, **token, "PYTHONUNBUFFERED": "1"}


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


def _is_ready(settings: Settings) -> bool:
    try:
        return httpx.get(f"{_url(settings)}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _summarize(settings: Settings, steps: Steps, report: Path, log: Path) -> None:
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
