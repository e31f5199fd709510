"""Direct links: bytes from a gateway to a replica over one persistent connection, beside Serve's own handle."""
