"""What a row is: use cases, the feature schema, Parquet, and the online store.

`data.read(use_case, path)` returns a table as a `ray.data.Dataset`, and `data.ParquetDatasink` writes one; both are
imported on first use, so that importing a module of this package loads no Ray.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime collects usage data and keeps a database in the home folder, unless it is told not to before
# its import. Every package of ours imports this one first, so no process of ours does that unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from data.distributed.parquet_datasink import ParquetDatasink as ParquetDatasink
    from data.distributed.ray_data import read as read

__all__ = ["ParquetDatasink", "read"]


def __getattr__(name: str) -> Any:
    if name == "read":
        from data.distributed.ray_data import read

        return read
    if name == "ParquetDatasink":
        from data.distributed.parquet_datasink import ParquetDatasink

        return ParquetDatasink
    raise AttributeError(f"module 'data' has no attribute '{name}'")
