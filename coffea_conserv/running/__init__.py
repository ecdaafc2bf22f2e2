"""Runs: on clusters where only some workers have a GPU, and from a configuration file without any Python.

Importing this package imports neither coffea nor Dask.
"""

from __future__ import annotations

from coffea_conserv.running.clusters import workers_with

__all__ = ("workers_with",)
