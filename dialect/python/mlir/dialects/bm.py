"""Builders of the bm ops, one class an op, made from the ODS records."""

from ._bm_ops_gen import *  # noqa: F403
