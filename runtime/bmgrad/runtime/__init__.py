"""The runtime of bmgrad: programs in StableHLO, run and transformed by JAX.

In: `Program` objects, which the frontend makes. Out: results, executables, files.
Start reading at `_program.py`, then `_primitive.py`; `_stages.py` and
`_artifact.py` are what users hold.
"""
