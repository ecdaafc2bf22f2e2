"""Runs from a configuration file: plan, execute here or on a cluster, write the results.

Importing this package imports neither coffea nor Dask.
"""

from __future__ import annotations

from coffea_conserv.running.clusters import workers_with

__all__ = ("workers_with",)
