"""XGBoost's matrix over rows in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from tests.support.training.tasks import binary_task
from tune.dataset.encoded_examples import EncodedExamples
from tune.dataset.shards import Shards, write_shard
from tune.training.boosting import base_params
from tune.training.quantile_matrix import build_matrix, fitting, free_bytes

TYPES = "qqqq"
PARAMS = {**base_params(binary_task(), 2, 0), "max_depth": 4, "subsample": 0.8, "colsample_bytree": 0.8}


@pytest.fixture
def rows():
    """Continuous and whole numbers, some missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9000, 4)).astype(np.float32)
    x[:, 2] = np.round(x[:, 2] * 3)
    x[rng.random(x.shape) < 0.05] = np.nan
    return EncodedExamples(x, (np.nan_to_num(x[:, 0]) + rng.normal(size=9000) > 1).astype(np.uint8))


@pytest.fixture
def shards(rows, tmp_path):
    """The same rows on disk, in shards of unequal sizes."""
    cuts = [0, 2000, 2001, 7000, 9000]
    for number in range(4):
        part = slice(cuts[number], cuts[number + 1])
        write_shard(tmp_path, str(number), rows.x[part], rows.y[part])
    return Shards(tmp_path, 4, tuple((str(i), cuts[i + 1] - cuts[i]) for i in range(4)))


def model(matrix, **params):
    """The bytes of a model trained on the matrix."""
    return bytes(xgboost.train({**PARAMS, **params}, matrix, 12).save_raw())


@pytest.mark.parametrize("max_bin", [None, 16])
@pytest.mark.parametrize("external", [False, True])
def test_shards_give_the_model_of_the_whole_matrix(rows, shards, tmp_path, external, max_bin):
    """In memory or from disk, the model is that of XGBoost alone on the rows in one piece, byte for byte."""
    bins = {} if max_bin is None else {"max_bin": max_bin}
    whole = xgboost.QuantileDMatrix(rows.x, rows.y, feature_types=list(TYPES), **bins)
    plain = model(whole, **bins)
    cache = tmp_path / "cache" if external else None
    assert model(build_matrix(shards, range(9000), TYPES, 2, max_bin, cache), **bins) == plain


def test_threads_do_not_change_the_model(shards):
    """One thread or two: the same bytes."""
    one, two = (model(build_matrix(shards, range(9000), TYPES, n, None, None), nthread=n) for n in (1, 2))
    assert one == two


def test_categories_are_learned_as_sets(rows, shards):
    """A feature that is declared a category is one in shards as in memory: the same bytes, and other trees."""
    codes = EncodedExamples(np.where(rows.x < 0, np.nan, np.floor(rows.x)), rows.y)
    types = ["q", "q", "c", "q"]
    native, plain = (model(build_matrix(codes, range(9000), each, 1, None, None)) for each in (types, TYPES))
    whole = xgboost.QuantileDMatrix(codes.x, codes.y, feature_types=types, enable_categorical=True)
    assert native == model(whole) != plain


def test_part_of_the_rows_is_a_matrix_of_its_own(rows, shards):
    """A range over the ends of shards is what the same rows in memory are."""
    part = range(1500, 7500)
    from_memory = build_matrix(rows, part, TYPES, 1, None, None)
    from_disk = build_matrix(shards, part, TYPES, 1, None, None)
    assert from_disk.num_row() == 6000
    assert model(from_disk) == model(from_memory)


def test_memory_decides_where_the_matrix_goes():
    """Few rows fit; more than the machine has memory for do not, and neighbours share what there is."""
    assert not fitting(1000, 10, 1).external
    assert str(fitting(1000, 10, 1)).endswith("in memory")
    assert fitting(10**12, 10, 1).external
    assert "from disk (external memory)" in str(fitting(10**12, 10, 1))
    assert fitting(1000, 10, 2).usable <= free_bytes()
