"""The console: its routes, the data that it shows, and its page."""
