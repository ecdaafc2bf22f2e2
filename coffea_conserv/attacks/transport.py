"""The ``transport`` solver: values are exchanged between events at a price.

An exchange of the values of some features between two events of one pool leaves every column a permutation
of itself, so that marginals are conserved exactly in any binning. What it changes, the correlations and the
watched quantities, has a price: a Lagrange multiplier per entry and per bin that rises while a limit fills.
An exchange is made when it gains more than it costs. All exchanges of one step are independent of each other
(no event takes part in two), so that a step is one batched evaluation of the model.

With a marginal limit above 0 values may also be *copied* from another event, at a price per bin.

Proposals are random (a random share of the features, a random partner) or guided: one feature steps along the
gradient, and the partner is the event that holds the value nearest to the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coffea_conserv.attacks.problem import BAND, JSD, Problem, Tables, correlations

__all__ = ("Move", "State", "Transport")

FULL = 0.95
"""Share of a histogram's limit that a step may use."""


@dataclass(frozen=True)
class State:
    """Where the solver is; never changed in place.

    Parameters
    ----------
    x, bins
        Current features and their bins, shape (events, features).
    slot
        Index of the nominal value that each event holds, shape (events, features).
    holder
        Event that holds each nominal value, shape (events, features).
    logit
        Of the current events, shape (events,).
    shift
        Change of the correlation matrices, shape (groups, features, features).
    dual
        Lagrange multipliers of the entries, same shape.
    stiffness
        Factor on the price of correlations, shape (groups,): rises while the limit is broken.
    cells
        Bins of the limited quantities, shape (events, quantities).
    content
        Sums of weights in bins, shape (groups, quantities, bins).
    price
        Factor on the price of bins, shape (groups, quantities).
    step
        Number of steps done.
    """

    x: Tensor
    bins: Tensor
    slot: Tensor
    holder: Tensor
    logit: Tensor
    shift: Tensor
    dual: Tensor
    stiffness: Tensor
    cells: Tensor
    content: Tensor
    price: Tensor
    step: int


@dataclass(frozen=True)
class Move:
    """Proposals: event ``a`` gets the values of ``b`` in the features of ``mask``, and ``b`` those of ``a``.

    Parameters
    ----------
    a, b
        Events, shape (proposals,). No event is in two proposals.
    mask
        Features that change, shape (proposals, features).
    exchange
        ``False``: ``b`` keeps its values.
    """

    a: Tensor
    b: Tensor
    mask: Tensor
    exchange: bool = True


@dataclass(frozen=True)
class Transport:
    """Settings of the solver.

    Parameters
    ----------
    steps
        Number of steps, each with about one proposal for two events.
    guided
        Share of the steps whose proposals follow the gradient.
    proportional, integral
        Response of the price of correlations to their shift, and to its sum over steps.
    margin
        An exchange must gain this much more than it costs.
    sharpness
        Steepness of the smooth step that stands for crossing the working point, at first and at last.
    """

    steps: int = 300
    guided: float = 0.4
    proportional: float = 0.3
    integral: float = 0.1
    margin: float = 0.003
    sharpness: tuple[float, float] = (3.0, 10.0)

    def init(self, problem: Problem) -> State:
        """Start from the nominal events."""
        events = torch.arange(len(problem.x), device=problem.x.device)
        slot = events[:, None].expand(problem.x.shape).clone()
        groups, features = problem.groups, problem.x.shape[1]
        zero = problem.x.new_zeros((groups, features, features))
        if problem.tables is None:
            cells = problem.bins.new_zeros((len(events), 0))
            content = zero.new_zeros((groups, 0, 1))
        else:
            cells = problem.tables.bins(problem.x, problem.bins, events)
            content = problem.tables.content.clone()
        ones = zero.new_full((groups, content.shape[1]), 0.01)
        logit = problem.logit(problem.x, events)
        stiff = zero.new_ones(groups)
        return State(problem.x, problem.bins, slot, slot, logit, zero, zero, stiff, cells, content, ones, 0)

    def done(self, state: State) -> bool:
        """Whether all steps are done."""
        return state.step >= self.steps

    def steepness(self, state: State) -> float:
        """Sharpness of the smooth step at this step."""
        first, last = self.sharpness
        return float(first * (last / first) ** min(1.0, state.step / max(0.7 * self.steps, 1)))


def apply(state: State, move: Move, kept: Tensor) -> State:
    """Make the proposals with the given index and return the new state, without its sums."""
    a, b, mask = move.a[kept], move.b[kept], move.mask[kept]
    x, bins = state.x.clone(), state.bins.clone()
    x[a], bins[a] = torch.where(mask, x[b], x[a]), torch.where(mask, bins[b], bins[a])
    if not move.exchange:
        return replace(state, x=x, bins=bins)
    x[b] = torch.where(mask, state.x[a], state.x[b])
    bins[b] = torch.where(mask, state.bins[a], state.bins[b])
    slot, holder = state.slot.clone(), state.holder.clone()
    slot[a] = torch.where(mask, state.slot[b], state.slot[a])
    slot[b] = torch.where(mask, state.slot[a], state.slot[b])
    column = torch.arange(x.shape[1], device=x.device).expand(len(a), -1)
    holder[slot[a], column] = a[:, None].expand(-1, x.shape[1])
    holder[slot[b], column] = b[:, None].expand(-1, x.shape[1])
    return replace(state, x=x, bins=bins, slot=slot, holder=holder)


def centred(problem: Problem) -> tuple[Tensor, Tensor]:
    """Weighted mean and spread of the present values of each group, shape (groups, features)."""
    there = problem.there.to(problem.x.dtype)
    sizes = torch.bincount(problem.group, minlength=problem.groups).tolist()
    means, spreads = [], []
    parts = (torch.split(t, sizes) for t in (problem.x, there, problem.weight))
    for x, mask, w in zip(*parts, strict=True):
        weighted = mask * w[:, None]
        total = weighted.sum(0).clamp(min=1e-30)
        mean = (torch.where(mask > 0, x, 0.0) * weighted).sum(0) / total
        square = ((torch.where(mask > 0, x - mean, 0.0)) ** 2 * weighted).sum(0) / total
        means.append(mean)
        spreads.append(torch.where(square > 0, square, 1.0).sqrt())
    return torch.stack(means), torch.stack(spreads)


class Run:
    """One problem with what does not change while it is solved; makes a step at a time."""

    def __init__(self, problem: Problem, settings: Transport, generator: torch.Generator) -> None:
        self.problem, self.settings, self.generator = problem, settings, generator
        self.device = problem.x.device
        self.sizes: list[int] = torch.bincount(problem.group, minlength=problem.groups).tolist()
        self.mean, self.spread = centred(problem)
        self.mask = problem.there.to(problem.x.dtype)
        self.nominal, self.rate = correlations(
            self.standard(problem.x, slice(None)), self.mask, problem.weight, self.sizes
        )
        self.total = torch.zeros(problem.groups, device=self.device).index_add_(
            0, problem.group, problem.weight
        )
        count = torch.bincount(problem.pool)
        self.start = (torch.cumsum(count, 0) - count)[problem.pool]
        self.count = count[problem.pool]
        self.free = problem.free
        self.sorted_values, self.sorted_events = self._sort()

    def standard(self, x: Tensor, event: Tensor | slice) -> Tensor:
        """Features in units of the spread of their group, 0 where missing."""
        group = self.problem.group[event]
        # not a product with the mask: a missing value may be NaN
        return torch.where(self.problem.there[event], (x - self.mean[group]) / self.spread[group], 0.0)

    def _sort(self) -> tuple[Tensor, Tensor]:
        """Nominal values in ascending order inside of each pool, per feature, and which event had them.

        Keys are pool + rank-like position in 0 … 1, in double precision, so that one search serves all pools.
        """
        z = self.standard(self.problem.x, slice(None)).double()
        key = self._key(z, self.problem.pool)
        return torch.sort(key, dim=0, stable=True)

    def _key(self, z: Tensor, pool: Tensor) -> Tensor:
        # atan maps the line into an interval, so that no value reaches into the next pool
        return pool[:, None].double() + (torch.atan(z) / torch.pi + 0.5) * 0.98 + 0.01

    def rand(self, *shape: int) -> Tensor:
        """Uniform random numbers on the device of the events."""
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def propose(self, state: State) -> Move:
        """Make proposals: copies every other step where marginals may change, else exchanges."""
        if self.problem.copies and state.step % 2:
            return replace(self._random(), exchange=False)
        if float(torch.rand((), generator=self.generator, device=self.device)) < self.settings.guided:
            return self._guided(state)
        return self._random()

    def _random(self) -> Move:
        """Pair the events of each pool at random, with a random share of the features."""
        pool = self.problem.pool
        order = torch.argsort(pool.double() + 0.999 * self.rand(len(pool)).double())
        rank = torch.arange(len(pool), device=self.device) - self.start
        first = ((rank % 2 == 0) & (rank + 1 < self.count)).nonzero()[:, 0]
        a, b = order[first], order[first + 1]
        share = self.rand(len(a), 1)
        mask = (self.rand(len(a), self.free.shape[1]) < share) & self.free[a]
        return Move(a, b, mask)

    def _guided(self, state: State) -> Move:
        """Half of the events step in one feature along the gradient; who holds that value is the partner."""
        problem = self.problem
        n, d = problem.x.shape
        a = torch.randperm(n, generator=self.generator, device=self.device)[: max(n // 2, 1)]
        slope = self._slope(state.x[a], a) * self.free[a]
        usable = slope.abs().sum(1) > 0
        a, slope = a[usable], slope[usable]
        if len(a) == 0:
            return self._random()
        pick = torch.multinomial(slope.abs() / slope.abs().sum(1, keepdim=True), 1, generator=self.generator)
        size = torch.exp(0.8 * torch.randn(len(a), 1, generator=self.generator, device=self.device) - 0.5)
        here = self.standard(state.x[a], a).gather(1, pick)
        target = here + size * torch.sign(slope.gather(1, pick))
        key = self._key(target.double(), problem.pool[a])
        b = self._holder(state, key[:, 0], pick[:, 0], a)
        mask = torch.zeros((len(a), d), dtype=torch.bool, device=self.device).scatter_(1, pick, value=True)
        return self._disjoint(Move(a, b, mask), n)

    def _slope(self, x: Tensor, event: Tensor) -> Tensor:
        """Gradient of the logit toward the goal, per unit of spread; NaN and infinity count as 0."""
        with torch.enable_grad():
            leaf = x.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.problem.logit(leaf, event).sum(), leaf)
        slope = gradient * self.spread[self.problem.group[event]] * self.problem.objective.sign
        return torch.nan_to_num(slope, 0.0, 0.0, 0.0)

    def _holder(self, state: State, key: Tensor, feature: Tensor, a: Tensor) -> Tensor:
        """Event that holds the value nearest to each target, give or take a few places."""
        place = torch.empty_like(feature)
        for j in range(self.free.shape[1]):
            of = (feature == j).nonzero()[:, 0]
            if len(of):
                place[of] = torch.searchsorted(self.sorted_values[:, j].contiguous(), key[of])
        place = place + torch.randint(-3, 4, (len(a),), generator=self.generator, device=self.device)
        low = self.start[a]
        place = torch.maximum(torch.minimum(place, low + self.count[a] - 1), low)
        return state.holder[self.sorted_events[place, feature], feature]

    def _disjoint(self, move: Move, n: int) -> Move:
        """Drop proposals until no event is in two of them: proposers come first, then the first to ask."""
        index = torch.arange(len(move.a), device=self.device)
        proposer = torch.zeros(n, dtype=torch.bool, device=self.device)
        proposer[move.a] = True
        claim = torch.full((n,), len(move.a), device=self.device)
        claim = claim.scatter_reduce(0, move.b, index, "amin")
        kept = ((claim[move.b] == index) & ~proposer[move.b]).nonzero()[:, 0]
        return Move(move.a[kept], move.b[kept], move.mask[kept], move.exchange)

    def step(self, state: State) -> State:
        """Propose, price, make what pays, and let the prices follow."""
        move = self.propose(state)
        if len(move.a) == 0:
            return replace(state, step=state.step + 1)
        event, x, bins = self._candidates(state, move)
        logit = self.problem.logit(x, event)
        cells = (
            state.cells[event] if self.problem.tables is None else self.problem.tables.bins(x, bins, event)
        )
        net = self._net(state, (event, x, logit, cells), self.settings.steepness(state))
        half = len(move.a)
        value = net[:half] + net[half:] if move.exchange else net
        good = value > self.settings.margin
        good &= self._possible(x, event, logit, move)
        kept = good.nonzero()[:, 0]
        share = self._share(state, move, kept, (event, cells, value))
        luck = self.rand(len(kept))
        group = self.problem.group[move.a[kept]]
        made = self._made(state, move, kept[luck < share[group]], (event, logit, cells))
        for _ in range(3):
            crowded = self._crowded(state, made)
            if not bool(crowded.any()):
                break
            share = torch.where(crowded, share * 0.3, share)
            made = self._made(state, move, kept[luck < share[group]], (event, logit, cells))
        else:
            share = torch.where(self._crowded(state, made), 0.0, share)
            made = self._made(state, move, kept[luck < share[group]], (event, logit, cells))
        return self._reprice(made)

    def _crowded(self, state: State, made: State) -> Tensor:
        """Groups in which a limited histogram would leave its limit, shape (groups,)."""
        if self.problem.tables is None:
            return torch.zeros(self.problem.groups, dtype=torch.bool, device=self.device)
        after = usage(self.problem, made)
        return ((after > FULL) & (after > usage(self.problem, state))).any(1)

    def _made(self, state: State, move: Move, kept: Tensor, to: tuple[Tensor, Tensor, Tensor]) -> State:
        """State after the proposals with the given index, with its sums."""
        event, logit, cells = to
        rows = torch.cat([kept, kept + len(move.a)]) if move.exchange else kept
        new = apply(state, move, kept)
        scores, places = state.logit.clone(), state.cells.clone()
        scores[event[rows]], places[event[rows]] = logit[rows], cells[rows]
        return replace(
            new,
            logit=scores,
            cells=places,
            content=self._recount(state, event[rows], cells[rows]),
            shift=self._shift(new.x),
            step=state.step + 1,
        )

    def _share(self, state: State, move: Move, kept: Tensor, to: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Share of the proposals to make in each group, shape (groups,).

        Each proposal pays as if it were alone. Together they change the sums by Δ, and what is made as large
        as possible falls short by the quadratic penalty of Δ. The share t that is best follows from the
        parabola t·G − t²·K/2; with it a step never overshoots, however stiff the prices are.
        """
        event, cells, value = to
        problem, groups = self.problem, self.problem.groups
        gain = value.new_zeros(groups).index_add(0, problem.group[move.a[kept]], value[kept])
        rows = torch.cat([kept, kept + len(move.a)]) if move.exchange else kept
        change = self._shift(apply(state, move, kept).x) - state.shift
        curvature = self._stiffness(state) * self.total * change.square().sum((1, 2))
        if cells.shape[1]:
            moved = self._recount(state, event[rows], cells[rows]) - state.content
            curvature = curvature + (self._bin_curvature(state) * moved.square()).sum((1, 2))
        return (gain / curvature.clamp(min=1e-12)).clamp(0.0, 1.0)

    def _stiffness(self, state: State) -> Tensor:
        return self.settings.proportional * state.stiffness

    def _shift(self, x: Tensor) -> Tensor:
        matrix, _ = correlations(self.standard(x, slice(None)), self.mask, self.problem.weight, self.sizes)
        return matrix - self.nominal

    def _candidates(self, state: State, move: Move) -> tuple[Tensor, Tensor, Tensor]:
        """Events that would change, and what they would become."""
        a, b, mask = move.a, move.b, move.mask
        xa, xb, ba, bb = state.x[a], state.x[b], state.bins[a], state.bins[b]
        x, bins = torch.where(mask, xb, xa), torch.where(mask, bb, ba)
        if not move.exchange:
            return a, x, bins
        x = torch.cat([x, torch.where(mask, xa, xb)])
        bins = torch.cat([bins, torch.where(mask, ba, bb)])
        return torch.cat([a, b]), x, bins

    def _possible(self, x: Tensor, event: Tensor, logit: Tensor, move: Move) -> Tensor:
        """Proposals whose events are possible and whose logits are numbers."""
        fine = torch.isfinite(logit)
        if self.problem.valid is not None:
            fine = fine & self.problem.valid(x, event)
        return fine[: len(move.a)] & fine[len(move.a) :] if move.exchange else fine

    def _net(self, state: State, to: tuple[Tensor, Tensor, Tensor, Tensor], sharp: float) -> Tensor:
        """Gain less cost of each candidate, weighted."""
        event, x, logit, cells = to
        group, goal = self.problem.group[event], self.problem.objective
        net = goal.gain(logit, sharp) - goal.gain(state.logit[event], sharp)
        tension = state.dual + self._stiffness(state)[:, None, None] * state.shift
        matrix = tension * self.rate * self.total[:, None, None]
        new, old = self.standard(x, event), self.standard(state.x[event], event)
        if self.problem.groups == 1:
            pulled = (new - old) @ matrix[0]
        else:
            pulled = torch.einsum("nj,njk->nk", new - old, matrix[group])
        net = net - (pulled * (new + old)).sum(1)
        if cells.shape[1]:
            table = self._bin_prices(state)
            quantity = torch.arange(cells.shape[1], device=self.device)
            rows = group[:, None]
            net = net - (table[rows, quantity, cells] - table[rows, quantity, state.cells[event]]).sum(1)
        return net * self.problem.weight[event]

    def _bin_prices(self, state: State) -> Tensor:
        """Price per bin of the limited quantities, shape (groups, quantities, bins); the last bin is free."""
        relative, scale = self._relative(state)
        return scale * torch.where(self._is_band(), relative**5, relative)

    def _bin_curvature(self, state: State) -> Tensor:
        """How fast the price of a bin rises with its content, same shape."""
        relative, scale = self._relative(state)
        slope = torch.where(self._is_band(), 5 * relative**4 + 0.2, 1.0)
        return scale * slope / (self._reference() * self._limit())

    def _relative(self, state: State) -> tuple[Tensor, Tensor]:
        """Deviation of each bin in units of the limit, and the factor on its price."""
        reference = self._reference()
        scale = state.price[..., None].expand(reference.shape).clone()
        scale[..., -1] = 0.0
        return (state.content - self._tables().content) / (reference * self._limit()), scale

    def _tables(self) -> Tables:
        tables = self.problem.tables
        assert tables is not None  # noqa: S101 -- only called where there are tables
        return tables

    def _reference(self) -> Tensor:
        return self._tables().content.clamp(min=1.0)

    def _limit(self) -> Tensor:
        return self._tables().limit[..., None].clamp(min=1e-6)

    def _is_band(self) -> Tensor:
        # the fifth power stands for the largest deviation, which has no useful derivative
        return (self._tables().kind == BAND)[:, None]

    def _recount(self, state: State, event: Tensor, cells: Tensor) -> Tensor:
        if not cells.shape[1] or len(event) == 0:
            return state.content
        content = state.content.clone()
        _, quantities, bins = content.shape
        base = (
            self.problem.group[event][:, None] * quantities + torch.arange(quantities, device=self.device)
        ) * bins
        weight = self.problem.weight[event][:, None].expand(cells.shape).reshape(-1).to(content.dtype)
        flat = content.view(-1)
        flat.index_add_(0, (base + state.cells[event]).reshape(-1), -weight)
        flat.index_add_(0, (base + cells).reshape(-1), weight)
        return content

    def _reprice(self, state: State) -> State:
        """Let the multipliers and prices follow what is used of each limit."""
        used = torch.linalg.matrix_norm(state.shift) / self.problem.correlation.clamp(min=1e-9)
        factor = torch.where(used > 0.9, 1.05, 0.97)
        stiffness = (state.stiffness * factor).clamp(0.3, 10.0)
        dual = state.dual + self.settings.integral * state.shift
        price = state.price
        if self.problem.tables is not None:
            ratio = usage(self.problem, state)
            price = (price * torch.where(ratio > 0.9, 1.05, 0.97)).clamp(1e-4, 1.0)
        return replace(state, stiffness=stiffness, dual=dual, price=price)


def usage(problem: Problem, state: State) -> Tensor:
    """Share of the limit of each table that is used, shape (groups, quantities)."""
    tables = problem.tables
    assert tables is not None  # noqa: S101 -- only called where there are tables
    reference = tables.content[..., :-1]
    change = state.content[..., :-1] - reference
    total = reference.sum(-1).clamp(min=1e-12)
    middle = torch.where((tables.kind == JSD)[:, None], reference + change / 2, reference)
    square = (change**2 / middle.clamp(min=1e-9)).sum(-1) / total
    largest = (change.abs() / reference.clamp(min=1e-9)).amax(-1)
    value = torch.where(tables.kind == BAND, largest, square.clamp(min=0).sqrt())
    return value / tables.limit.clamp(min=1e-9)
