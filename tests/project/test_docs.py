"""The documentation, held against the code that it describes."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

from data import __main__ as data
from data.schema.batch_schedule import BatchSchedule
from data.schema.entity import Entity
from data.schema.events.event_source import EventSource
from data.schema.features.feature import Feature, FeatureType, Source
from data.schema.model_policy import Calibration, Cost, Decision, Gates, Slice, ThresholdMetric
from data.schema.objective import Objective
from data.schema.reason_codes import ReasonCodes
from data.schema.search import Metric, Range, Search
from data.schema.split import Split
from data.schema.task import Binary, Multiclass, Ranking, Regression
from data.schema.use_case import UseCase, parse_use_case
from ray_app import __main__ as ray_app
from ray_app.cli.rayscore import LINE as RAYSCORE
from tests.support.services.prometheus import RULE_FILES, alert_rules
from tests.support.serving.metrics import every_metric
from tests.support.serving.predict_app import ServedApp, build_app, run
from tests.support.serving.window_app import swipes_app
from tune import __main__ as tune

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MODELS: dict[str, type[BaseModel]] = {
    "Top level": UseCase,
    "Two labels": Binary,
    "Several classes": Multiclass,
    "A number": Regression,
    "The order of a list": Ranking,
    "entity": Entity,
    "features": Feature,
    "events": EventSource,
    "materialized": BatchSchedule,
    "split": Split,
    "search": Search,
    "search.space": Range,
    "gates": Gates,
    "decision": Decision,
    "decision.cost": Cost,
    "slices": Slice,
    "explanation": ReasonCodes,
}
LINES = {"rayscore": RAYSCORE, "data": data.LINE, "tune": tune.LINE, "ray_app": ray_app.LINE}
DEFAULTS = {"tune": "search"}
GUIDES = {
    "data": ["data.md", "features-in-time.md", "prediction-log.md"],
    "tune": ["data.md", "training.md", "rollouts.md"],
    "ray_app": ["batch-scoring.md", "features-in-time.md", "http-api.md", "load-testing.md"],
}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`]+`", re.M | re.S)
_COMMAND = re.compile(r"(?:python -m (?=data|tune|ray_app|benchmarks)|(?<![\w./-])(?=rayscore ))([\w.]+)([^\n`#|&;)]*)")
_ALTERNATIVE = re.compile(r" / ([a-z]+)\b")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def doc(name: str) -> str:
    """The text of a page in docs/."""
    return (ROOT / "docs" / name).read_text("utf-8")


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##? |\Z)", text, re.M | re.S)
    assert found, f"no section '{title}'"
    return found[2]


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the table whose header line begins with `header`."""
    lines = text[text.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(cell: str) -> list[str]:
    """The words in back quotes."""
    return re.findall(r"`([^`]+)`", cell)


def help_of(module: str, command: str | None, capsys: pytest.CaptureFixture[str]) -> str:
    """What `--help` prints; fails when there is no such command."""
    main = LINES[module].main if module in LINES else import_module(module).main
    with pytest.raises(SystemExit) as left:
        main([*([command] if command else []), "--help"])
    printed = capsys.readouterr()
    assert left.value.code == 0, f"{module} {command}: {printed.err}"
    return printed.out


def check_command(module: str, rest: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Fail unless the command, those named beside it by slashes, and the options that it is shown with exist."""
    command = DEFAULTS.get(module)
    if module in LINES and (word := re.match(r" ([a-z]+)\b", rest)):
        command = word[1]
        for name in (command, *_ALTERNATIVE.findall(rest)):
            assert name in LINES[module].commands, f"{where}: {module}{rest}"
    known = _OPTION.findall(help_of(module, command, capsys))
    assert set(_OPTION.findall(rest)) <= set(known), f"{where}: {module}{rest}"


@by_page
def test_links_resolve(page: Path):
    """Every link to a file or heading of the project leads somewhere."""
    for link in _LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in slugs(target), f"{page.name}: {link}"


@by_page
def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]):
    """Every `rayscore` and `python -m` command of a page exists and knows the options that it is shown with."""
    code = "\n".join(_CODE.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    for module, rest in _COMMAND.findall(code):
        check_command(module, rest, page.name, capsys)


def test_pages_show_commands():
    """The pages are full of commands, so that the check above checks something."""
    code = "\n".join(match for page in PAGES for match in _CODE.findall(page.read_text("utf-8")))
    shown = {word for module, rest in _COMMAND.findall(code) if module == "rayscore" for word in rest.split()[:1]}
    assert set(RAYSCORE.commands) <= shown


@pytest.mark.parametrize("command", [None, *RAYSCORE.commands])
def test_help_shows_commands_that_exist(command: str | None, capsys: pytest.CaptureFixture[str]):
    """Every example in a help text is a command of ours with its options."""
    for module, rest in _COMMAND.findall(help_of("rayscore", command, capsys).replace("rayscore COMMAND", "")):
        if not rest.startswith(" [-h]"):
            check_command(module, rest, f"rayscore {command} --help", capsys)


def test_messages_name_commands_that_exist(capsys: pytest.CaptureFixture[str]):
    """Every command that an error, an alert, a script or the console puts in quotes for the user exists."""
    files = [*ROOT.glob("docs/*.sh"), *(ROOT / "deploy").rglob("*.*ml"), *(ROOT / "ray_app").rglob("*.js")]
    files += [file for package in ("data", "tune", "ray_app") for file in (ROOT / package).rglob("*.py")]
    named = [
        (file.name, rest)
        for file in files
        for rest in re.findall(
            r"[`'\"( ]rayscore( [a-z]+ --[a-z][a-z-]*|(?<=`rayscore) [a-z]+)", file.read_text("utf-8")
        )
    ]
    assert named
    for where, rest in named:
        check_command("rayscore", rest, where, capsys)


@pytest.mark.parametrize("module", GUIDES)
def test_options_are_documented(module: str, capsys: pytest.CaptureFixture[str]):
    """Every option of every command is in the page of its package."""
    documented = {option for page in GUIDES[module] for option in _OPTION.findall(doc(page))}
    for command in LINES[module].commands:
        options = set(_OPTION.findall(help_of(module, command, capsys))) - {"--help"}
        assert options <= documented, command


@pytest.mark.parametrize("title", MODELS)
def test_use_case_keys(title: str):
    """The use-case reference has each key of the models with its default, and no other."""
    fields = dict(MODELS[title].model_fields)
    if title == "features":
        del fields["name"]
        # Set by training, and refused in a use case.
        del fields["score"]
    table = {names(cells[0])[0]: cells for cells in rows(section(doc("use-cases.md"), title), "key")}
    assert list(table) == list(fields)
    for name, field in fields.items():
        default = table[name][2]
        if field.is_required():
            assert default == "required", name
        elif isinstance(field.default, BaseModel) or field.default_factory:
            assert default == "see below", name
        else:
            given = getattr(field.default, "value", field.default)
            assert default == ("none" if given is None else f"`{json.dumps(given)}`"), name


def test_use_case_choices():
    """The reference names every value of the keys that take one of a few."""
    text = doc("use-cases.md")
    for title, key, kind in (
        ("features", "type", FeatureType),
        ("features", "source", [each for each in Source if each not in (Source.EVENTS, Source.COMPUTED)]),
        ("search", "metric", Metric),
        ("Top level", "calibration", Calibration),
        ("A number", "objective", Objective),
        ("decision", "metric", ThresholdMetric),
    ):
        (cells,) = [cells for cells in rows(section(text, title), "key") if names(cells[0]) == [key]]
        assert names(cells[1]) == [member.value for member in kind], key


def test_example_use_cases_are_valid():
    """Every whole use case in the reference is one."""
    blocks = re.findall(r"```toml\n(.*?)```", doc("use-cases.md"), re.S)
    whole = [block for block in blocks if "\nname = " in f"\n{block}"]
    assert len(whole) == 3
    for block in whole:
        parse_use_case(block, "docs/use-cases.md")


def test_routes(tmp_path: Path):
    """The HTTP reference has each route of an application with windows, which has all, and no other."""
    documented = {
        name
        for cells in rows(section(doc("http-api.md"), "Routes"), "route")
        for name in names(cells[0]) + names(cells[2])
    }

    async def known(served: ServedApp) -> str:
        async with served.client() as client:
            return (await client.get("/nowhere")).json()["detail"]

    with swipes_app(tmp_path / "events.db") as served:
        there = set(run(known(served)).partition("there are: ")[2].split(", "))
    assert {name for name in documented if name.startswith("/")} == there


def test_metrics():
    """The HTTP reference has each metric with its type and labels, and no other."""
    documented = {
        names(cells[0])[0]: (cells[1], set(names(cells[2].partition(":")[0])))
        for cells in rows(section(doc("http-api.md"), "Metrics"), "metric")
    }
    text = every_metric()
    exposed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert {name: kind for name, (kind, _) in documented.items()} == exposed
    for name, (_, labels) in documented.items():
        series = re.search(rf"^{name}(?:_bucket)?(?:\{{(.*)\}})? ", text, re.M)
        assert series, name
        assert set(re.findall(r"(\w+)=", series[1] or "")) - {"replica", "le"} == labels, name


def test_alerts():
    """The table of alerts has each alert rule with its severity, in the order of the files, and no other."""
    documented = [(names(cells[0])[0], cells[1]) for cells in rows(section(doc("deployment.md"), "Alerts"), "alert")]
    rules = alert_rules(*RULE_FILES)
    assert documented == [(rule["alert"], rule["labels"]["severity"]) for rule in rules]


def test_statuses():
    """The HTTP reference has each status that the API's own document declares."""

    async def document() -> dict[str, dict[str, object]]:
        async with build_app().client() as client:
            return (await client.get("/openapi.json")).json()["paths"]["/predict"]["post"]["responses"]

    documented = {cells[0] for cells in rows(section(doc("http-api.md"), "Errors"), "status")}
    assert documented == (run(document()).keys() - {"200"}) | {"404", "405", "500"}


def test_example_answers_are_json():
    """Every JSON block of the HTTP reference is one or more JSON values."""
    for block in re.findall(r"```json\n(.*?)```", doc("http-api.md"), re.S):
        decoder, rest = json.JSONDecoder(), block.strip()
        while rest:
            _, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()
