"""Where rows come from: Parquet, CSV, filesystems behind URLs, the generator, and what a table's columns look like."""
