"""What a row is: use cases, the feature schema, Parquet, and the online store."""

import os

# ONNX Runtime collects usage data and keeps a database in the home folder, unless it is told not to before
# its import. Every package of ours imports this one first, so no process of ours does that unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
