"""What a client sends and is sent: rows, responses, routes, fixed pages and the OpenAPI document."""
