"""Generated posts, and a model of their texts that is trained in seconds."""

from __future__ import annotations

import functools

import pyarrow as pa

from data.schema.use_case import UseCase, load_use_case
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import GenerationPlan, shards
from tests.support.training.models import train_bundle
from tune.registry.bundle import Bundle

_END_US = 1_767_225_600_000_000


def posts_use_case() -> UseCase:
    """The use case that the posts are for."""
    return load_use_case("post_sentiment")


@functools.cache
def posts_table(rows: int = 4000, seed: int = 0) -> pa.Table:
    """Generated posts of 90 days."""
    plan = GenerationPlan(rows=rows, seed=seed, entities=rows // 10, days=90, end_us=_END_US)
    return pa.concat_tables(GENERATORS["post_sentiment"].tables(shards(plan, 1)[0])).combine_chunks()


@functools.cache
def posts_bundle() -> Bundle:
    """A model of `posts_table()`, made once a test run."""
    return train_bundle(posts_table(), posts_use_case(), rounds=40, max_depth=3, eta=0.2)
