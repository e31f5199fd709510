"""The offline kernel of window features: all windows of n rows over k events, in vectors, exact.

Events are sorted once by entity, time and key, and cut into blocks of whole entities that fit into a processor's cache.
Each block is computed by itself (`window_block`), several at a time: numpy lets other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from data.feature_views.kernel.entity_blocks import EntityBlock, entity_blocks
from data.feature_views.kernel.event_arrays import Events, Moments
from data.feature_views.kernel.window_block import WindowBlock
from data.schema.features.window_feature import WindowFeature


def windows(events: Events, rows: Moments, features: Sequence[WindowFeature]) -> dict[str, np.ndarray]:
    """Compute window features of one source.

    Returns:
        By feature, float64 of shape (n,), NaN = missing. The first or last of words is the code of the word.

    Raises:
        OverflowError: a sum does not fit into 64 bits; names the feature.
    """
    found = {feature.name: np.empty(len(rows.time_us), np.float64) for feature in features}
    for entity in dict.fromkeys(feature.by for feature in features):
        asked = [feature for feature in features if feature.by == entity]

        def fill(block: EntityBlock, entity: str = entity, asked: Sequence[WindowFeature] = asked) -> None:
            held = WindowBlock(events, rows, entity, block)
            for feature in asked:
                found[feature.name][block.rows] = held.compute(feature)

        _each(fill, entity_blocks(events, rows, entity))
    return found


def _each(fill: Callable[[EntityBlock], None], blocks: Sequence[EntityBlock]) -> None:
    if len(blocks) < 2:
        for block in blocks:
            fill(block)
        return
    # As many as Arrow takes for its own work, of which a worker of Ray is told.
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        for _ in threads.map(fill, blocks):
            pass
