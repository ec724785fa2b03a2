"""How fast bmgrad is beside its peers: `python -m benchmarks [--quick]`, or one script alone.

Each `bench_*.py` asks one question. `_harness.py` measures and prints, `_models.py` has the
functions that both sides are given.
"""
