"""The schema: the use-case file, its features and its model policy. Imports nothing of ours but the errors."""
