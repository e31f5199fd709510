"""The HTTP interface: ASGI application, request options, the predict handler and the admin routes."""
