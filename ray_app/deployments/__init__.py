"""The Ray Serve deployments, how they are wired into an application, and what each shows as metrics."""
