"""Analyses as physicists write them, each with the attack and, as the plain analysis, without.

``htautau`` (flat skims) and ``ttbar_ww`` (NanoAOD) are the example analyses. ``top_pairs`` follows the
Analysis Grand Challenge, ``dimuons`` coffea's first example; both run on NanoAOD of many versions.
"""
