"""Sources of rows: Parquet, CSV, file systems behind URLs, synthetic transactions, and drafts of use cases."""
