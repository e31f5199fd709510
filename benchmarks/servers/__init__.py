"""The servers that are measured: how each is started, its processes, and how soon it is ready."""
