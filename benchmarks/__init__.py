"""Measurements: `python -m benchmarks huey`, `python -m benchmarks drain`.

Each starts a private server, ends by itself and leaves nothing behind.
"""
