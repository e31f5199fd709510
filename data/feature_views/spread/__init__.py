"""The table in time of what does not fit into memory: rows are exchanged by key, by entity, and back to their order.

The steps are plain functions of tables; `pipeline` runs them one after the other, by Ray Data or in this process.
"""
