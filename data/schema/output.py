"""The output: what a trained model answers, by kind of target, and how its numbers are read.

A model gives `width` float32 numbers a row. All code that shows, logs, counts or compares answers goes by the output;
none asks which kind it is.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Tag

from data.schema.outputs.binary_output import BinaryOutput
from data.schema.outputs.multiclass_output import MulticlassOutput
from data.schema.outputs.ranking_output import RankingOutput
from data.schema.outputs.regression_output import RegressionOutput
from data.schema.task import kind_of

Output = Annotated[
    Annotated[BinaryOutput, Tag("binary")]
    | Annotated[MulticlassOutput, Tag("multiclass")]
    | Annotated[RegressionOutput, Tag("regression")]
    | Annotated[RankingOutput, Tag("ranking")],
    Discriminator(kind_of),
]
"""An output of any kind."""
