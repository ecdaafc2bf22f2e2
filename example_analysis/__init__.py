"""Example analysis: semileptonic top pairs against W pairs, from generation to templates."""

from __future__ import annotations
