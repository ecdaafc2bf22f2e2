"""Report of a run: on a terminal, and as one self-contained page for reviewers."""

from __future__ import annotations

from coffea_conserv.report.console import comparison_table, print_report
from coffea_conserv.report.page import write_page

__all__ = ("comparison_table", "print_report", "write_page")
