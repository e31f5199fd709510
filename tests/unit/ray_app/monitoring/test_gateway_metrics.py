"""The metrics of a replica, read back as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from data.online_store.row_codec import OnlineRow
from ray_app.monitoring.gateway_metrics import FEATURE_FETCH, MODEL, GatewayMetrics
from ray_app.prediction import Lookup, Prediction, Row
from tests.support.serving.metrics import TwoLinks, samples, text


def read(metrics: GatewayMetrics) -> dict[tuple[str, str], float]:
    """Samples by name and by the labels other than the replica's."""
    return samples(text(metrics.registry))


def prediction(encoded: list[float | None], stored: int, lookup: Lookup) -> Prediction:
    """A prediction of a row with these values."""
    return Prediction(Row("u", None, encoded, {}), [0.5], lookup, stored)


def test_predictions_are_counted_by_what_they_say():
    """Outcome, entities found, degradation and the source of each value are counted."""
    metrics = GatewayMetrics("r1", "m", "1")
    found = Lookup(OnlineRow(0, (1, None)), True, 1.0)
    metrics.predictions(
        [
            prediction([0.0, None, None], 1, found),
            prediction([1.0, None, 2.0], 0, Lookup(degraded=True)),
            prediction([1.0, None, None], 0, Lookup(found=False)),
            prediction([1.0, 0.0, 2.0], 0, Lookup()),
        ]
    )
    metrics.refused(2)
    samples = read(metrics)
    assert samples["rayscore_items_total", "outcome=ok"] == 4
    assert samples["rayscore_items_total", "outcome=refused"] == 2
    assert samples["rayscore_entities_total", "found=true"] == 1
    assert samples["rayscore_entities_total", "found=false"] == 1
    assert samples["rayscore_degraded_total", ""] == 1
    assert samples["rayscore_feature_source_total", "source=request"] == 7
    assert samples["rayscore_feature_source_total", "source=online"] == 1
    assert samples["rayscore_feature_source_total", "source=default"] == 4


def test_times_are_booked_by_status_and_stage():
    """Requests are counted by status, batches by stage, with their seconds."""
    metrics = GatewayMetrics("r1", "m", "1")
    metrics.request(200, 0.004)
    metrics.request(503, 0.1)
    metrics.stage(MODEL, 0.25)
    metrics.batch_rows.observe(64)
    samples = read(metrics)
    assert samples["rayscore_requests_total", "code=200"] == 1
    assert samples["rayscore_requests_total", "code=503"] == 1
    assert samples["rayscore_request_seconds_bucket", "le=0.005"] == 1
    assert samples["rayscore_stage_seconds_sum", f"stage={MODEL}"] == 0.25
    assert samples["rayscore_stage_seconds_count", f"stage={FEATURE_FETCH}"] == 0
    assert samples["rayscore_batch_rows_bucket", "le=64.0"] == 1


def test_queue_is_read_when_asked():
    """The queue's length is that of the moment of the scrape."""
    queue = [1, 2]
    metrics = GatewayMetrics("r1", "m", "1")
    metrics.watch_queue(lambda: len(queue), 10)
    assert read(metrics)["rayscore_queue_rows", ""] == 2
    assert read(metrics)["rayscore_queue_limit_rows", ""] == 10
    queue.clear()
    assert read(metrics)["rayscore_queue_rows", ""] == 0


def test_every_series_names_its_replica():
    """Each series carries the replica, and the model served is one of them."""
    metrics = GatewayMetrics("r1", "card_fraud", "7")
    for family in text_string_to_metric_families(text(metrics.registry)):
        assert family.name.startswith("rayscore_")
        assert family.documentation
        for sample in family.samples:
            assert sample.labels["replica"] == "r1"
    assert read(metrics)["rayscore_model_info", "model=card_fraud,version=7"] == 1


def test_replicas_of_one_process_do_not_share():
    """Two replicas in one process count for themselves."""
    one, other = GatewayMetrics("r1", "m", "1"), GatewayMetrics("r2", "m", "1")
    one.refused(1)
    assert read(other)["rayscore_items_total", "outcome=refused"] == 0


def test_links_are_counted_by_what_happens_to_them():
    """Calls, events and the state of links are told apart by deployment, all of them there from the start."""
    metrics = GatewayMetrics("r1", "m", "1")
    call, event = metrics.count_calls("Model"), metrics.count_link_events("Model")
    metrics.watch_links("Model", TwoLinks())
    call("retry")
    event("lost")
    event("lost")
    found = read(metrics)
    assert found["rayscore_stage_calls_total", "deployment=Model,way=retry"] == 1
    assert found["rayscore_stage_calls_total", "deployment=Model,way=handle"] == 0
    assert found["rayscore_link_events_total", "deployment=Model,event=lost"] == 2
    assert found["rayscore_link_events_total", "deployment=Model,event=opened"] == 0
    assert found["rayscore_open_links", "deployment=Model"] == 1
    assert found["rayscore_link_replicas", "deployment=Model"] == 2
