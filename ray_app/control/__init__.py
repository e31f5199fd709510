"""Which versions of a model are held where, and which rules are in force: plain logic, and what replicas do of it."""
