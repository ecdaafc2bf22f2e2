"""Bins in which data are not looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.sums.groups import simulated

__all__ = ("Blinding", "check_blinding")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Blinding:
    """Data stay hidden in bins where the share of signal is large.

    They then enter no histogram, picture, number or file that is made of the result. Estimates from data are
    made of them all the same, in their control regions.

    Parameters
    ----------
    signal
        Simulated processes that are signal, or one.
    above
        Share S / (S + B) of nominal simulation above which a bin of any quantity is hidden, from 0 to 1.

    Raises
    ------
    ConfigurationError
        If one of them is something else.

    Examples
    --------
    >>> import numpy as np
    >>> Blinding("VBF", above=0.1).hides(np.array([0.0, 1.0, 5.0]), np.array([100.0, 50.0, 20.0])).tolist()
    [False, False, True]
    """

    signal: Sequence[str]
    above: float = 0.05

    def __post_init__(self) -> None:
        signal: tuple[Any, ...] = (self.signal,) if isinstance(self.signal, str) else tuple(self.signal)
        if not signal or not all(isinstance(name, str) and name for name in signal):
            msg = f"signal={self.signal!r} must be the name of a process, or a list of such"
            raise ConfigurationError(msg)
        if isinstance(self.above, bool) or not 0 <= self.above <= 1:
            msg = f"above={self.above!r} must be a share from 0 to 1"
            raise ConfigurationError(msg)
        object.__setattr__(self, "signal", signal)

    def hides(self, signal: Floats, background: Floats) -> NDArray[np.bool_]:
        """Tell which bins are hidden from their contents of signal and background, both shape (bins,).

        Negative contents count as 0, and a bin with signal and no background is hidden.
        """
        s, b = np.maximum(signal, 0.0), np.maximum(background, 0.0)
        hidden: NDArray[np.bool_] = s > self.above * (s + b)
        return hidden


def check_blinding(blinding: Any, processes: Mapping[str, tuple[str, ...]]) -> None:
    """Raise a ConfigurationError unless data can be hidden by this, or it is ``None``."""
    if blinding is None:
        return
    if not isinstance(blinding, Blinding):
        msg = f"blinding must be Blinding(signal, above), got {blinding!r:.80}"
        raise ConfigurationError(msg)
    known = simulated(processes)
    unknown = [name for name in blinding.signal if name not in known]
    if unknown:
        msg = f"blinding: there is no simulated process {', '.join(unknown)}; there are {', '.join(known)}"
        raise ConfigurationError(msg)
