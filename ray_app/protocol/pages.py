"""The static GET pages of one model version: front page, API documentation, model description."""

from __future__ import annotations

import functools
import html
import json
from importlib import resources
from typing import NamedTuple

from data.schema.features.feature import Feature
from data.schema.output import Output
from ray_app.protocol import responses
from ray_app.protocol.openapi import example, openapi
from tune.registry.bundle import BundleManifest

_HTML = b"text/html; charset=utf-8"
_SWAGGER = resources.files("swagger_ui_bundle") / "vendor"


class StaticPage(NamedTuple):
    """Content type and body of a page."""

    content_type: bytes
    body: bytes


def build_pages(manifest: BundleManifest, version: str, max_items: int, slow: str | None) -> dict[str, StaticPage]:
    """Render all pages, and return them by path; `slow` is a warning on the front page: why serving is not fast."""
    document = openapi(manifest, version, max_items)
    return {
        "/": StaticPage(_HTML, _front(manifest, version, slow).encode()),
        "/docs": StaticPage(_HTML, _docs(manifest).encode()),
        "/docs/swagger-ui.css": StaticPage(b"text/css", _asset("swagger-ui.css")),
        "/docs/swagger-ui-bundle.js": StaticPage(b"text/javascript", _asset("swagger-ui-bundle.js")),
        "/openapi.json": StaticPage(responses.JSON, responses.dumps(document)),
        "/model/info": StaticPage(responses.JSON, responses.dumps(_info(manifest, version))),
    }


def _info(manifest: BundleManifest, version: str) -> dict[str, object]:
    return {
        "name": manifest.name,
        "version": version,
        "description": manifest.description,
        "label": manifest.label,
        **_answers(manifest.output),
        "created_at": manifest.created_at,
        "schema_fingerprint": manifest.schema_.fingerprint,
        "data_fingerprint": manifest.data_fingerprint,
        "metrics": responses.finite(manifest.metrics),
        "features": [_feature(manifest, feature) for feature in manifest.schema_.features],
        "versions": manifest.versions,
    }


def _answers(output: Output) -> dict[str, object]:
    """What is answered in words, the labels where there are some, and the numbers that were fitted beside the model."""
    labels = {} if output.labels is None else {"labels": output.labels}
    return {"answers": output.words, **labels, **output.fitted}


def _feature(manifest: BundleManifest, feature: Feature) -> dict[str, object]:
    """The feature's declaration; of its vocabulary the words that may be public, and the number of all."""
    described = feature.model_dump(mode="json")
    if feature.vocabulary is not None:
        described |= {"vocabulary": manifest.shown_words(feature), "known_words": len(feature.vocabulary)}
    return described


@functools.cache
def _asset(name: str) -> bytes:
    folder = next(path for path in _SWAGGER.iterdir() if path.name.startswith("swagger-ui"))
    return (folder / name).read_bytes()


def _docs(manifest: BundleManifest) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{html.escape(manifest.name)}: API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger"></div><script src="docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger", tryItOutEnabled: true}})</script></body></html>"""


def _front(manifest: BundleManifest, version: str, slow: str | None) -> str:
    body = json.dumps(example(manifest), ensure_ascii=False).replace("'", "'\\''")
    # The page knows its own address, so the command works behind any port or name.
    curl = f"curl -s ORIGIN/predict -H 'content-type: application/json' \\\n  -d '{body}'"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(manifest.metrics.items()))
    warning = f'<p class="slow">{html.escape(slow)}</p>' if slow else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>rayscore: {html.escape(manifest.name)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1b1f24 }}
pre {{ background: #f3f4f6; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 6px }}
.slow {{ background: #fff4d6; padding: .75rem 1rem; border-radius: 6px }}
dt {{ font-weight: 600; margin-top: .6rem }} dd {{ margin: 0 }}
</style></head><body>
<h1>{html.escape(manifest.name)} <small>version {html.escape(version)}</small></h1>
<p>{html.escape(manifest.description)} This service answers live predictions of
<code>{html.escape(manifest.label)}</code>; {html.escape(manifest.output.words)}.</p>
{warning}
<h2>Ask it</h2><pre id="curl">{html.escape(curl)}</pre>
<h2>Where to look</h2><dl>
<dt><a href="docs">docs</a></dt><dd>Every field and error, to try out in the browser</dd>
<dt><a href="console">console</a></dt><dd>Versions, traffic and what happens to them, live; changes with the token</dd>
<dt><a href="model/info">model/info</a></dt><dd>Features, answers and holdout metrics ({html.escape(metrics)})</dd>
<dt><a href="ready">ready</a>, <a href="health">health</a></dt><dd>Readiness with reasons, and liveness</dd>
<dt><a href="metrics">metrics</a></dt><dd>For Prometheus</dd></dl>
<script>const c=document.getElementById("curl");
c.textContent=c.textContent.replace("ORIGIN",location.href.replace(/\\/$/,""))</script>
</body></html>"""
