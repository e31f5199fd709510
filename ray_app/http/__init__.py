"""The HTTP interface: ASGI application, request options, handler of /predict, and the admin API."""
