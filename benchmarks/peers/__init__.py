"""Servers that rayscore is compared with: same model, store and answers, set up as each framework's docs advise.

FastAPI runs in the project's own environment, whose packages it shares; every other peer has an environment of its
own, made by `python -m benchmarks.peers install`. Peers import this package, `data` and
`tune.registry.bundle` by PYTHONPATH.
"""
