"""Errors of the package, each with the offender and the remedy in its text.

::

    ConservError                      anything this package refuses
    ├── ConfigurationError            a setting contradicts itself or another one (also a ValueError)
    ├── InputError                    events, weights or regions that cannot be used (also a ValueError)
    ├── ModelError                    a model that cannot be attacked (also a ValueError)
    ├── MergeError                    outputs that do not belong together (also a ValueError)
    └── RunError                      a run that did not come to its end (also a RuntimeError)

None of them is an :class:`OSError`: coffea may take an ``OSError`` on a worker for an unreadable file and
drop the chunk with no more than a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = (
    "ConfigurationError",
    "ConservError",
    "InputError",
    "MergeError",
    "ModelError",
    "RunError",
    "of_extra",
)

FAILURES = (Exception,)
"""What a function or class of the user raises if something is wrong with it: also errors of its own kind, of
libraries, and warnings that have been made errors; no interrupt and no end of the program."""


class ConservError(Exception):
    """Anything this package refuses."""


class ConfigurationError(ConservError, ValueError):
    """A setting contradicts itself or another one."""


class InputError(ConservError, ValueError):
    """Events, weights or regions that cannot be used."""


class ModelError(ConservError, ValueError):
    """A model that cannot be attacked."""


class RunError(ConservError, RuntimeError):
    """A run that did not come to its end."""


class MergeError(ConservError, ValueError):
    """Outputs that do not belong together."""


@contextmanager
def of_extra(extra: str = "fit") -> Iterator[None]:
    """Say how to install what an import within does not find.

    Parameters
    ----------
    extra
        Of this package, which brings it.

    Raises
    ------
    ConfigurationError
        With the package and the remedy.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        msg = f"this needs {error.name}: pip install 'coffea-conserv[{extra}]'"
        raise ConfigurationError(msg) from None
