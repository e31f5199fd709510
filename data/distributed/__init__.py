"""Work spread over a Ray cluster, over its tasks, or over child processes of this machine."""
