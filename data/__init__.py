"""What a row is: use cases, the feature schema, Parquet, and the online store."""
