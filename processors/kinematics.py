"""Differentiable kinematics for torch: finite values and gradients everywhere, in single precision too.

All functions are elementwise: their arguments broadcast against each other and the result has that shape,
for 0, 1 or many events. Momenta and masses are in GeV, angles in radians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ("delta_phi", "delta_r", "magnitude", "pair_mass", "pair_pt", "transverse_mass")

_TINY = 1e-12
"""Below this the square root is taken as constant, so that its derivative stays finite at 0."""


def _root(x: Tensor) -> Tensor:
    return torch.sqrt(x.clamp(min=_TINY))


def magnitude(x: Tensor, y: Tensor) -> Tensor:
    """Length of a vector in the plane, with a finite gradient at the origin."""
    return _root(x.square() + y.square())


def delta_phi(phi_a: Tensor, phi_b: Tensor) -> Tensor:
    """Signed azimuthal difference in ``[-π, π)``."""
    return torch.remainder(phi_a - phi_b + math.pi, 2 * math.pi) - math.pi


def delta_r(eta_a: Tensor, phi_a: Tensor, eta_b: Tensor, phi_b: Tensor) -> Tensor:
    """Angular distance √(Δη² + Δφ²)."""
    return magnitude(eta_a - eta_b, delta_phi(phi_a, phi_b))


def transverse_mass(pt: Tensor, phi: Tensor, pt_met: Tensor, phi_met: Tensor) -> Tensor:
    """Transverse mass of a massless lepton and the missing momentum, √(2 p_T E_T^miss (1 − cos Δφ)).

    Written with sin²(Δφ/2): the difference 1 − cos Δφ loses all digits for small angles. By construction
    m_T² ≤ 4 p_T E_T^miss.
    """
    return 2 * _root(pt * pt_met) * torch.sin((phi - phi_met) / 2).abs()


def pair_pt(pt_a: Tensor, phi_a: Tensor, pt_b: Tensor, phi_b: Tensor) -> Tensor:
    """Transverse momentum of the sum of two vectors."""
    return _root((pt_a - pt_b).square() + 4 * pt_a * pt_b * torch.cos((phi_a - phi_b) / 2).square())


def pair_mass(
    pt: tuple[Tensor, Tensor],
    eta: tuple[Tensor, Tensor],
    phi: tuple[Tensor, Tensor],
    mass: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Invariant mass of two objects.

    With transverse masses μ = √(p_T² + m²) and rapidities y,
    m² = m_a² + m_b² + 2 (μ_a μ_b cosh Δy − p_Ta p_Tb cos Δφ), with the differences of large numbers
    written out, so that single precision is enough.

    Parameters
    ----------
    pt, eta, phi
        Transverse momenta, pseudorapidities and azimuths of the two objects.
    mass
        Their masses; a negative value stands for a negative squared mass, as in ROOT. ``None``: massless.

    Returns
    -------
    torch.Tensor
        Mass of the pair.
    """
    zero = torch.zeros_like(pt[0])
    m2_a, m2_b = (zero, zero) if mass is None else (m * m.abs() for m in mass)
    mt_a, mt_b = _root(pt[0].square() + m2_a), _root(pt[1].square() + m2_b)
    y_a = torch.asinh(pt[0] / mt_a * torch.sinh(eta[0]))
    y_b = torch.asinh(pt[1] / mt_b * torch.sinh(eta[1]))
    p, mu = pt[0] * pt[1], mt_a * mt_b
    # mu − p without cancellation.
    difference = (m2_a * pt[1].square() + m2_b * pt[0].square() + m2_a * m2_b) / (mu + p).clamp(min=_TINY)
    boost, angle = torch.sinh((y_a - y_b) / 2).square(), torch.sin((phi[0] - phi[1]) / 2).square()
    return _root(m2_a + m2_b + 2 * difference + 4 * (mu * boost + p * angle))
