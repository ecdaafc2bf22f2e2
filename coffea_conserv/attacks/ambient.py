"""What a caller may have switched on in torch: off while this package computes, and as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from coffea_conserv.attacks.network import one_thread

__all__ = ("isolated",)


@contextmanager
def isolated() -> Iterator[None]:
    """Be independent of inference mode, autocast and the number of threads while it lasts.

    Tensors that are made in inference mode can never have a gradient, autocast computes models in half
    precision, and sums on several threads are added in another order. Decorates functions, too.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode(), isolated():
    ...     torch.ones(1).is_inference()
    False
    """
    with (
        one_thread(),
        torch.inference_mode(mode=False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.no_grad(),
    ):
        yield
