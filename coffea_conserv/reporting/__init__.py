"""One self-contained page of a run that a reviewer can follow without its author."""

from __future__ import annotations

from coffea_conserv.reporting.page import write_page

__all__ = ("write_page",)
