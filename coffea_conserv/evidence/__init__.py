"""What a validation in control regions would see of an attack, test by test."""

from __future__ import annotations
