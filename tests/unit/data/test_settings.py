"""Settings: where a value comes from, what is refused, and that the documentation's table is the code's."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from data.errors import ConfigError
from data.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without settings file, and an environment without settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.delenv(PREFIX + "CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table_rows() -> list[str]:
    """The rows of the documentation's table, one a setting in the order of the code."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return rows


def test_every_setting_is_documented():
    """docs/settings.md has one row for every setting, with the code's default and meaning, and no other rows."""
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith(f"| `{PREFIX}")] == table_rows()


def test_every_setting_has_a_meaning():
    """Each setting says in a sentence what it means."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_defaults_need_nothing():
    """Without environment and file everything has a value, and local files lie in the var folder."""
    settings = load_settings()
    assert settings.http_port == 8000
    assert settings.store == "sqlite"
    assert settings.sqlite_path == Path("var/online.db").absolute()
    assert settings.tracking_uri == f"sqlite:///{Path('var/mlflow.db').absolute()}"


def test_environment_goes_before_file_and_file_before_default(bare: Path, monkeypatch: pytest.MonkeyPatch):
    """A variable wins over the file, the file over the default, and an option of the command over all."""
    (bare / "rayscore.toml").write_text('http_port = 9001\nmax_batch = 9\nlog_level = "INFO"\n')
    monkeypatch.setenv("RAYSCORE_HTTP_PORT", "9002")
    monkeypatch.setenv("RAYSCORE_LOG_LEVEL", "ERROR")
    settings = load_settings(log_level="DEBUG")
    assert (settings.http_port, settings.max_batch, settings.log_level) == (9002, 9, "DEBUG")
    assert settings.batch_slots == Settings.model_fields["batch_slots"].default


def test_paths_hold_in_another_working_directory(bare: Path, monkeypatch: pytest.MonkeyPatch):
    """Settings that travel to a process elsewhere name the same files there."""
    sent = pickle.dumps(load_settings(var_dir="runs", prediction_log_dir="log"))
    (bare / "elsewhere").mkdir()
    monkeypatch.chdir(bare / "elsewhere")
    there = pickle.loads(sent)
    assert there.sqlite_path == bare / "runs" / "online.db"
    assert there.prediction_log_path == bare / "log"


def test_option_that_was_not_given_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    """A command-line option left out is None and leaves the setting as it is."""
    monkeypatch.setenv("RAYSCORE_MODEL_ALIAS", "challenger")
    assert load_settings(model_alias=None).model_alias == "challenger"


def test_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch):
    """An empty variable, as Compose files pass it on, counts as absent."""
    monkeypatch.setenv("RAYSCORE_HTTP_PORT", "")
    monkeypatch.setenv("RAYSCORE_CONFIG", "")
    assert load_settings().http_port == 8000


def test_named_file_is_read(bare: Path, monkeypatch: pytest.MonkeyPatch):
    """RAYSCORE_CONFIG names another file, and the one in the working directory is left alone."""
    (bare / "rayscore.toml").write_text("http_port = 9001\n")
    (bare / "other.toml").write_text("http_port = 9003\n")
    monkeypatch.setenv("RAYSCORE_CONFIG", str(bare / "other.toml"))
    assert load_settings().http_port == 9003


def test_named_file_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    """RAYSCORE_CONFIG that names no file is refused, not ignored."""
    monkeypatch.setenv("RAYSCORE_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"RAYSCORE_CONFIG names nowhere\.toml, which is not a file"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RAYSCORE_HTTP_PRT", "1", "unknown setting RAYSCORE_HTTP_PRT"),
        ("RAYSCORE_HTTP_PORT", "many", "RAYSCORE_HTTP_PORT.*valid integer"),
        ("RAYSCORE_HTTP_PORT", "70000", "RAYSCORE_HTTP_PORT.*less than or equal to 65535"),
        ("RAYSCORE_STORE", "redis", "RAYSCORE_STORE.*'sqlite' or 'cassandra'"),
        ("RAYSCORE_CASSANDRA_KEYSPACE", "a;drop", "RAYSCORE_CASSANDRA_KEYSPACE.*pattern"),
        ("RAYSCORE_MAX_BATCH", "0", "RAYSCORE_MAX_BATCH.*greater than or equal to 1"),
        ("RAYSCORE_CORS_ORIGINS", "https://a.example/", "RAYSCORE_CORS_ORIGINS.*'https://a.example/' is not an origin"),
        ("RAYSCORE_CORS_ORIGINS", "https://a.example, b.example", "'b.example' is not an origin"),
        ("RAYSCORE_CORS_ORIGINS", "https://A.example", "'https://A.example' is not an origin.*in lower case"),
        ("RAYSCORE_CORS_ORIGINS", "*, https://a.example", "'\\*' is not an origin.*alone"),
        ("RAYSCORE_CORS_ORIGINS", "null", "'null' is not an origin"),
        ("RAYSCORE_CORS_ORIGINS", "https://a.example,", "'' is not an origin"),
        ("RAYSCORE_CORS_ORIGINS", "http://a.example:70000", "'http://a.example:70000' is not an origin"),
        ("RAYSCORE_CORS_ORIGINS", "https://a.example:443", "'https://a.example:443': leave out the port"),
    ],
)
def test_bad_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str):
    """An unknown variable, and a value of the wrong type or range, is refused with the variable's name."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        load_settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http_prt = 1\n", r"RAYSCORE_HTTP_PRT \(or 'http_prt' in rayscore\.toml\).*not permitted"),
        ('max_batch = "x"\n', r"'max_batch' in rayscore\.toml"),
        ("max_batch = \n", r"rayscore\.toml: not valid TOML"),
    ],
)
def test_bad_file_is_refused_by_name(bare: Path, text: str, words: str):
    """An unknown key, a bad value and broken TOML are refused with the file and the key."""
    (bare / "rayscore.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_settings()


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("*", ("*",)),
        ("https://a.example", ("https://a.example",)),
        ("http://localhost:3000, https://[::1]:8443", ("http://localhost:3000", "https://[::1]:8443")),
        ("capacitor://localhost,http://a.example:443", ("capacitor://localhost", "http://a.example:443")),
        ("", ()),
    ],
)
def test_origins_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch, value: str, allowed: tuple[str, ...]):
    """Origins are separated by commas, blanks around them do not count, and without the setting there is none."""
    monkeypatch.setenv("RAYSCORE_CORS_ORIGINS", value)
    assert load_settings().cors_allowed == allowed


def test_password_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    """A password does not appear when the settings are printed or logged."""
    monkeypatch.setenv("RAYSCORE_CASSANDRA_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_settings_do_not_change():
    """Settings are frozen: what a replica was given stays."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().http_port = 1
