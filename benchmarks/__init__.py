"""Measurements: `python -m benchmarks peers`, `huey`, `drain`, `idle`.

Each starts a private server, ends by itself and leaves nothing behind but the environments of the
peers under `var/bench`.
"""
