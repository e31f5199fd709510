"""What replicas are built from."""

from __future__ import annotations

import pickle

from data.settings import load_settings
from ray_app.deployments.replica_spec import make_replica_spec
from ray_app.transport.handshake import Handshake
from tests.support.training.models import card_bundle
from tune.registry.traffic_rules import TrafficRules


def test_manifest_is_unpacked_once_and_does_not_travel():
    """Whoever asks again gets the same object; a pickled spec is as small as before, and equal where it arrives."""
    rules = TrafficRules(use_case="card_fraud", champion="1")
    spec = make_replica_spec(load_settings(), rules, {"1": card_bundle()})
    sent = pickle.dumps(spec)
    assert spec.manifest is spec.manifest
    assert spec.manifest == card_bundle().manifest
    assert Handshake(spec.secret, "model", spec.manifest.contract).problem(spec.handshake("model").encode()) is None
    assert pickle.dumps(spec) == sent
    arrived = pickle.loads(sent)
    assert arrived == spec
    assert arrived.manifest == spec.manifest
