"""The console: its routes, what it is shown, and its page."""
