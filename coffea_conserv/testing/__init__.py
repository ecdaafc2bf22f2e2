"""Conformance suite for solvers: what every solver has to keep, as checks that anybody can run.

::

    from coffea_conserv.testing import CHECKS, check_solver

    check_solver(MySolver())  # all of them; raises with everything that is wrong

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_my_solver(check):  # or one by one
        check(MySolver())
"""

from __future__ import annotations

from coffea_conserv.testing.solvers import CHECKS, Check, check_solver

__all__ = ("CHECKS", "Check", "check_solver")
