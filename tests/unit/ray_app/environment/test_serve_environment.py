"""The environment of fast serving: what it is on this machine, who gets it, and who is left alone."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ray_app.environment.serve_environment import (
    SERVE_ENVIRONMENT,
    haproxy_available,
    in_serve_run,
    serve_environment,
    slow_reason,
)

ROOT = Path(__file__).parents[4]
HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_SHOWN = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_worker_niceness")

_COMMAND = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from ray_app.environment.serve_environment import ensure, given, in_serve_run
ensure()
seen = {{"argv": sys.argv[1:], "serve_run": in_serve_run(), "env": dict(os.environ), "given": given()}}
print(json.dumps(seen))
"""


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without the variables of serving."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("RAY_SERVE_", "RAY_worker_"))}, **changes}


def output(command: list[str], **environment: str) -> str:
    """What a command prints."""
    given = clean_environment(**environment)
    done = subprocess.run(command, capture_output=True, text=True, env=given, cwd=ROOT, timeout=60, check=True)
    return done.stdout


def started(folder: Path, name: str, *arguments: str, **environment: str) -> dict[str, object]:
    """What a program of this name sees after `ensure`; a second print would mean that it ran twice."""
    program = folder / name
    program.write_text(_COMMAND)
    (line,) = output([sys.executable, str(program), *arguments], **environment).splitlines()
    return json.loads(line)


def test_command_prints_the_environment_for_a_shell():
    """`rayscore env` prints exports that a shell takes, one for each variable."""
    words = shlex.split(output([sys.executable, "-m", "ray_app", "env"]))
    parsed = dict(word.split("=", 1) for word in words[1::2])
    assert set(words[::2]) == {"export"}
    assert parsed == serve_environment()
    assert set(parsed) >= set(SERVE_ENVIRONMENT)


def test_without_haproxy_direct_ingress_is_off():
    """Where HAProxy cannot run, the throughput flag must not switch direct ingress on: nothing would answer."""
    code = "import json; from ray_app.environment.serve_environment import *; "
    code += "print(json.dumps([haproxy_available(), serve_environment()]))"
    # Without site-packages and PATH there is no HAProxy to be found.
    available, given = json.loads(output([sys.executable, "-S", "-c", code], PATH="", PYTHONPATH=""))
    assert available is False
    assert given[HAPROXY] == "0"
    assert given["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"
    assert given["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"


def test_named_haproxy_is_taken():
    """A HAProxy that the user names counts as there."""
    code = "from ray_app.environment.serve_environment import haproxy_available; print(haproxy_available())"
    named = output([sys.executable, "-S", "-c", code], PATH="", RAY_SERVE_HAPROXY_BINARY_PATH="/opt/haproxy")
    assert named.strip() == str(sys.platform.startswith("linux"))


def test_serve_run_gets_the_environment(tmp_path: Path):
    """A `serve run` command starts over once, with its arguments and the variables of the fast path."""
    seen = started(tmp_path, "serve", "run", "ray_app:graph", "--name", "a b")
    assert seen["argv"] == ["run", "ray_app:graph", "--name", "a b"]
    assert seen["serve_run"] is True
    environment = seen["env"]
    assert isinstance(environment, dict)
    assert {name: environment[name] for name in serve_environment()} == serve_environment()


def test_what_the_user_gave_is_told_from_what_was_added(tmp_path: Path):
    """Only the user's own variables count as given, the fast path set beside them or not; children learn of neither."""
    for own in ({}, {"RAY_worker_niceness": "0"}, {"RAY_SERVE_ANY": "1", HAPROXY: "0"}):
        seen = started(tmp_path, "serve", "run", "x:y", **own)
        assert seen["given"] == own
        environment = seen["env"]
        assert isinstance(environment, dict)
        assert not [name for name in environment if "ADDED" in name]


def test_what_the_user_set_stays(tmp_path: Path):
    """A variable that the user set keeps its value; HAProxy set either way leaves the whole environment alone."""
    environment = started(tmp_path, "serve", "run", "x:y", RAY_worker_niceness="5")["env"]
    assert isinstance(environment, dict)
    assert environment["RAY_worker_niceness"] == "5"
    assert environment[HAPROXY] == serve_environment()[HAPROXY]
    untouched = started(tmp_path, "serve", "run", "x:y", **{HAPROXY: "0"})["env"]
    assert isinstance(untouched, dict)
    assert "RAY_SERVE_THROUGHPUT_OPTIMIZED" not in untouched


@pytest.mark.parametrize(("name", "arguments"), [("serve", ["deploy", "x.yaml"]), ("score", ["run"]), ("main", [])])
def test_other_commands_are_left_alone(tmp_path: Path, name: str, arguments: list[str]):
    """Outside of `serve run` nothing is started over and nothing is set."""
    seen = started(tmp_path, name, *arguments)
    assert seen["serve_run"] is False
    environment = seen["env"]
    assert isinstance(environment, dict)
    assert not [key for key in _SHOWN if key in environment]


def test_this_process_is_no_serve_run():
    """A test run is not taken for a `serve run`."""
    assert not in_serve_run()


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({}, 'eval "$(rayscore env)"'),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}, "HAProxy cannot run here"),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", HAPROXY: "0"}, "HAProxy cannot run here"),
        ({HAPROXY: "1"}, "slow default settings"),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", HAPROXY: "1"}, None),
    ],
)
def test_slow_path_says_why(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], word: str | None):
    """A process off the fast path says why and what to do; one on it says nothing."""
    for name in SERVE_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reason = slow_reason()
    assert (reason is None) if word is None else (reason is not None and word in reason)


def test_dependencies_bring_haproxy():
    """The installed packages bring HAProxy on Linux, so a plain installation is on the fast path."""
    assert haproxy_available() is sys.platform.startswith("linux")
