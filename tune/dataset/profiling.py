"""Profiling: what the train rows hold of each feature, counted on the values that the model sees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import FeatureProfile, TrainingProfile
from data.transform.encoding import FeatureEncoder, named_column


def profile_rows(table: pa.Table, schema: FeatureSchema) -> TrainingProfile:
    """Return the profile of some rows, which may be none; those of the parts of a table merge into that of the whole.

    Args:
        table: raw train rows, with a column for each feature.
        schema: fitted on all train rows.

    Raises:
        DataError: a feature's column is missing or of a type that cannot hold it.
    """
    features = {each.name: _profile(each, named_column(table, each.name)) for each in schema.features}
    return TrainingProfile(rows=table.num_rows, features=features)


def _profile(feature: Feature, column: pa.ChunkedArray) -> FeatureProfile:
    encoder = FeatureEncoder(feature.without_default())
    codes, missing = encoder.column(column), encoder.missing_mask(column)
    present = codes[~np.isnan(codes)]
    if feature.type is not FeatureType.CATEGORY:
        low, high = (float(present.min()), float(present.max())) if len(present) else (None, None)
        return FeatureProfile(missing=int(missing.sum()), low=low, high=high)
    used = set(np.unique(present).tolist())
    unused = tuple(word for code, word in enumerate(feature.vocabulary or ()) if code not in used)
    return FeatureProfile(missing=int(missing.sum()), unknown=int((np.isnan(codes) & ~missing).sum()), unused=unused)
