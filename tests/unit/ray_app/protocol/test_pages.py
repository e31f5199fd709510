"""The fixed pages: they say what this is, they are whole, and nothing of a use case runs in a browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from ray_app.protocol.pages import StaticPage, build_pages
from tests.support.serving.predict_app import VERSION, manifest
from tune.registry.bundle import BundleManifest

_HOSTILE = "</pre><script>alert('x')</script>\"&"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]


def pages(declared: BundleManifest | None = None, slow: str | None = None) -> dict[str, StaticPage]:
    """The pages of the card use case."""
    return build_pages(declared or manifest(), VERSION, 1000, slow)


def links(body: bytes) -> _Links:
    """What a page links to."""
    parser = _Links()
    parser.feed(body.decode())
    return parser


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_every_link_leads_somewhere(path: str):
    """The front page and the documentation link and load nothing that this service does not have."""
    known = {*pages(), "/console", "/health", "/ready", "/metrics"}
    for target in links(pages()[path].body).targets:
        assert "//" not in target
        assert f"/{target}" in known


def test_front_page_says_what_this_is():
    """The front page names model, version, what is answered, and a command that asks for a prediction."""
    body = pages()["/"].body.decode()
    for words in ("card_fraud", f"version {VERSION}", "is_fraud", manifest().output.words, "/predict", "curl"):
        assert words in body


def test_front_page_warns_when_slow():
    """Why the service does not run on its fast path is shown, and nothing otherwise."""
    assert "HAProxy &amp; co" in pages(slow="HAProxy & co").get("/", StaticPage(b"", b"")).body.decode()
    assert 'class="slow"' not in pages()["/"].body.decode()


def test_texts_of_a_use_case_are_not_markup():
    """Description and example of a use case are text on every page, whatever they hold."""
    example = {name: _HOSTILE if isinstance(value, str) else value for name, value in manifest().example.items()}
    assert _HOSTILE in example.values()
    hostile = manifest().model_copy(update={"description": _HOSTILE, "label": _HOSTILE, "example": example})
    for path in ("/", "/docs"):
        assert links(pages(hostile)[path].body).scripts == links(pages()[path].body).scripts


def test_model_info_describes_the_model():
    """Features, threshold and figures of the model are there as JSON."""
    page = pages()["/model/info"]
    assert page.content_type == b"application/json"
    info = json.loads(page.body)
    assert info["name"] == "card_fraud"
    assert info["version"] == VERSION
    assert info["threshold"] == manifest().output.fitted["threshold"]
    assert [feature["name"] for feature in info["features"]] == list(manifest().schema_.names)
    assert info["schema_fingerprint"] == manifest().schema_.fingerprint


def test_figure_that_is_no_number():
    """A holdout figure that could not be computed is null in JSON and does not break a page."""
    declared = manifest().model_copy(update={"metrics": {"auc": float("nan")}})
    assert json.loads(pages(declared)["/model/info"].body)["metrics"] == {"auc": None}


def test_documentation_needs_no_network():
    """The documentation's script and style are served from here."""
    assert len(pages()["/docs/swagger-ui-bundle.js"].body) > 100_000
    assert pages()["/docs/swagger-ui.css"].content_type == b"text/css"
