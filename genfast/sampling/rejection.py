"""Discriminator rejection sampling: draws of a generator, kept as often as its discriminator says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from genfast.ops import rejection_accept, rejection_compact
from genfast.sampling.calibration import LinearCalibration
from genfast.sampling.histogram import StreamingPercentile
from genfast.sampling.latents import Latents, normal_latents
from genfast.sampling.modes import evaluating
from genfast.sampling.processes import Ranks, alone
from genfast.sampling.progress import Advance, progress_of
from genfast.sampling.rejection_state import (
    Accepted,
    RejectionState,
    check_nan,
    check_percentile,
    maximum,
)

Network = Callable[[Tensor], Tensor]

# The uniforms that decide are of another stream than those of the latents.
_OF_DECISIONS = 0x9E3779B97F4A7C15
# gamma follows the percentile whenever so many more proposals have been seen: at fixed numbers, so that
# results do not depend on the batches.
_GAMMA_EVERY = 4096


class DiscriminatorRejectionSampler:
    """Samples of p_d out of those of a generator, by the density ratio that its discriminator knows.

    A proposal G(z) with logit t is accepted with probability sigmoid(F), F = d - log(-expm1(d - eps)) -
    gamma, where d = t - log M and log M is the largest logit so far. With gamma = 0 and D optimal the
    accepted samples are those of the data, and 1/M of the proposals; a larger gamma accepts fewer (F
    subtracts it), a negative one more. The maximum is estimated by a burn-in and rises if a later
    proposal exceeds it; what was accepted before that is counted as stale.

    Proposal i depends on the seed and i alone, and the maximum is taken in their order, so that the
    accepted samples depend neither on `batch_size` nor on the number of processes (up to float rounding
    of the networks on a decision boundary), and sample(3) then sample(5) give what sample(8) gives.

    Source: Azadi et al., "Discriminator Rejection Sampling" (2018), algorithm 1.

    Args:
        generator: z -> samples (N, ...).
        discriminator: samples -> logits (N,) or (N, 1). Modules are run in evaluation mode.
        latents: numbers in z, whose law then is N(0, 1); or a function of (how many, seed, number of the
            first) for any law.
        gamma: fixed; 0 is exact rejection.
        percentile: in per cent (80 is the 80th), instead of gamma: gamma is that percentile of F, before
            gamma, over all proposals so far, so that 100 - percentile per cent of them have F > 0.
        calibration: of the logits, e.g. `LinearCalibration.fit(...)`.
        log_m: the maximum, if it is known; -inf asks for a burn-in.
        eps: of F.
        seed: of all draws, any integer.
        batch_size: proposals at a time, of each process.
        device: of the latents.
        processes: `Ranks` of `genfast.sampling`, for several processes at work on one stream: each gets
            a part of the accepted samples. Then every method but `state_dict` is collective.

    Raises:
        ValueError: an argument out of its range; a logit is NaN; logits of another shape.

    >>> import torch
    >>> from genfast.sampling import DiscriminatorRejectionSampler
    >>> # p_g = N(0, 2^2), p_d = N(0, 1): the log density ratio, up to a constant
    >>> sampler = DiscriminatorRejectionSampler(lambda z: 2 * z, lambda x: -3 / 8 * x[:, 0] ** 2, 1)
    >>> sampler.burn_in(1000)
    >>> x = sampler.sample(2000)
    >>> x.shape, round(x.std().item(), 1), round(sampler.state.acceptance, 1)
    (torch.Size([2000, 1]), 1.0, 0.5)
    """

    def __init__(
        self,
        generator: Network,
        discriminator: Network,
        latents: int | Latents,
        *,
        gamma: float = 0.0,
        percentile: float | None = None,
        calibration: LinearCalibration | None = None,
        log_m: float = -math.inf,
        eps: float = 1e-8,
        seed: int = 0,
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        processes: Ranks | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not math.isfinite(gamma) or math.isnan(log_m) or not 0 <= eps < math.inf:
            raise ValueError(
                f"gamma={gamma} and eps={eps} must be finite, log_m={log_m} not NaN, eps >= 0"
            )
        if percentile is not None:
            check_percentile(percentile, gamma)
        if isinstance(latents, int) and latents < 1:
            raise ValueError(f"latents must be at least 1, got {latents}")
        self.generator, self.discriminator = generator, discriminator
        self.percentile, self.eps, self.seed = percentile, eps, seed
        self.calibration = calibration or LinearCalibration()
        self.batch_size, self.device = batch_size, torch.device(device)
        self.state = RejectionState(log_m=log_m, gamma=gamma)
        self._latents = normal_latents(latents, self.device) if isinstance(latents, int) else latents
        self._logits = StreamingPercentile()
        self._processes = processes or alone()

    @classmethod
    def from_model(cls, model: Any, **settings: Any) -> DiscriminatorRejectionSampler:
        """The sampler of a GAN of `genfast.models`, whose samples then are images in [-1, 1].

        Args:
            model: one that has `generate`, `logits` and `latents`, without classes.
            settings: the constructor's.

        >>> import genfast
        >>> from genfast.sampling import DiscriminatorRejectionSampler
        >>> model = genfast.models.GAN((1, 8, 8), levels=17)
        >>> sampler = DiscriminatorRejectionSampler.from_model(model, percentile=80)
        >>> sampler.burn_in(256)
        >>> sampler.sample(5).shape
        torch.Size([5, 1, 8, 8])
        """

        def latents(n: int, seed: int, first: int) -> Tensor:
            z: Tensor = model.latents(n, seed=seed, start=first)
            return z

        device = next(model.parameters()).device
        return cls(model.generate, model.logits, latents, device=device, **settings)

    def burn_in(self, n: int) -> None:
        """Estimates the maximum (and the percentile) on the next n proposals, which are not kept.

        Raises:
            ValueError: n is less than 1, or a logit is NaN.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        state, end = self.state, self.state.proposals + n
        with self._evaluating():
            while state.proposals < end:
                low, high = self._round(end)
                logits = self._propose(*self._processes.part(low, high))[1]
                check_nan(logits)
                self._logits.add(logits)
                state.log_m = max([state.log_m, *self._processes.gather(maximum(logits))])
                state.proposals, state.burned_in = high, state.burned_in + high - low
        self._follow_percentile()

    def sample(
        self,
        n: int,
        *,
        progress: bool | Advance = False,
        max_proposals: int | None = None,
    ) -> Tensor:
        """Exactly n accepted samples, (n, ...); of several processes, this one's part of n.

        Args:
            n: how many, at least 0.
            progress: a bar (needs tqdm), or a function called with how many more there are.
            max_proposals: give up after so many.

        Raises:
            ValueError: n is negative; a logit is NaN.
            RuntimeError: no maximum is known yet; or `max_proposals` were not enough.
        """
        parts = [
            part.samples for part in self.batches(n, progress=progress, max_proposals=max_proposals)
        ]
        if parts:
            return torch.cat(parts)
        with self._evaluating():
            return self.generator(self._latents(1, self.seed, 0))[:0]

    def batches(
        self,
        n: int,
        *,
        progress: bool | Advance = False,
        max_proposals: int | None = None,
    ) -> Iterator[Accepted]:
        """`sample` in parts, for as many as do not fit into memory at once."""
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}")
        state = self.state
        if state.log_m == -math.inf:
            raise RuntimeError("the maximum is not known: call burn_in(n) first, or give log_m")
        end = math.inf if max_proposals is None else state.proposals + max_proposals
        goal = state.accepted + n
        with progress_of(progress, n) as advance:
            while state.accepted < goal:
                if state.proposals >= end:
                    raise RuntimeError(
                        f"{max_proposals} proposals gave {n - goal + state.accepted} of {n} samples "
                        f"(acceptance {state.acceptance:.2g}): allow more, or lower gamma"
                    )
                before = state.accepted
                with self._evaluating():
                    part = self._accept(*self._round(end), goal - before)
                advance(state.accepted - before)
                yield part

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs besides the constructor's arguments: numbers, and one int64 tensor."""
        return {"seed": self.seed, **asdict(self.state), "logits": self._logits.counts.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the sampler that gave `state` was.

        Raises:
            ValueError: another seed's, or a part is missing.
        """
        names = {"seed", "logits", *asdict(self.state)}
        if set(state) != names:
            raise ValueError(
                f"state must have {', '.join(sorted(names))}, got {', '.join(sorted(state))}"
            )
        if state["seed"] != self.seed:
            raise ValueError(f"state is of seed {state['seed']}, but this sampler has seed {self.seed}")
        counts = self._logits.counts
        if state["logits"].shape != counts.shape:
            raise ValueError(
                f"logits has shape {tuple(state['logits'].shape)}, not {tuple(counts.shape)}"
            )
        self._logits.counts = state["logits"].clone()
        self.state = RejectionState(**{name: state[name] for name in asdict(self.state)})

    # ---- a round: batch_size proposals of every process, one after another in number -----------------

    def _round(self, end: float) -> tuple[int, int]:
        """The numbers of the next proposals; gamma changes only between rounds."""
        low = self.state.proposals
        high = min(low + self.batch_size * self._processes.count, end)
        if self.percentile is not None:
            high = min(high, (low // _GAMMA_EVERY + 1) * _GAMMA_EVERY)
        return low, int(high)

    def _propose(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        if low == high:  # the first proposal stands for the shapes
            samples, logits = self._propose(0, 1)
            return samples[:0], logits[:0]
        samples = self.generator(self._latents(high - low, self.seed, low))
        logits = self.discriminator(samples)
        if logits.shape not in ((high - low,), (high - low, 1)):
            raise ValueError(
                f"discriminator must give logits of shape ({high - low},), got {tuple(logits.shape)}"
            )
        logits = logits.flatten()
        exact = logits if logits.dtype == torch.float64 else logits.float()
        return samples, self.calibration(exact)

    def _accept(self, low: int, high: int, wanted: int) -> Accepted:
        """The accepted among proposals low ... high - 1, and no more than wanted."""
        state, processes = self.state, self._processes
        mine = processes.part(low, high)
        samples, logits = self._propose(*mine)
        check_nan(logits)
        before = max([state.log_m, *processes.gather(maximum(logits))[: processes.rank]])
        accept, _ = rejection_accept(
            logits, None, before,
            gamma=state.gamma, eps=self.eps, seed=self.seed ^ _OF_DECISIONS, first=mine[0],
        )  # fmt: skip
        rows, count = rejection_compact(samples, accept)
        numbers, _ = rejection_compact(torch.arange(*mine, device=accept.device), accept)
        counts = [int(c) for c in processes.gather(float(count))]
        keep = min(max(0, wanted - sum(counts[: processes.rank])), counts[processes.rank])
        if sum(counts) >= wanted:  # what comes after the last one wanted has not happened
            last = float(numbers[keep - 1]) if keep else -1.0
            high = int(max(processes.gather(last))) + 1
            logits = logits[: max(0, high - mine[0])]
        self._note(mine[0], logits, numbers[:keep], high)
        return Accepted(rows[:keep], numbers[:keep])

    def _note(self, first: int, logits: Tensor, accepted: Tensor, high: int) -> None:
        """Takes a round into the state."""
        state, processes = self.state, self._processes
        total = sum(int(n) for n in processes.gather(float(len(accepted))))
        log_m = max([state.log_m, *processes.gather(maximum(logits))])
        if log_m > state.log_m:
            at = (logits == log_m).nonzero()
            risen = int(min(processes.gather(float(first + at[0]) if len(at) else math.inf)))
            earlier = processes.gather(float((accepted < risen).sum()))
            state.stale = state.accepted + sum(int(n) for n in earlier)
        state.log_m, state.proposals, state.accepted = log_m, high, state.accepted + total
        if self.percentile is not None:
            self._logits.add(logits)
            if high % _GAMMA_EVERY == 0:
                self._follow_percentile()

    def _follow_percentile(self) -> None:
        """gamma from all logits so far: F rises with the logit, so its percentile is the logit's F."""
        if self.percentile is None:
            return
        together = StreamingPercentile()
        together.counts = self._processes.sum(self._logits.counts)
        d = min(0.0, together.percentile(self.percentile) - self.state.log_m)
        self.state.gamma = d - math.log(max(-math.expm1(d - self.eps), 1e-300))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Networks in evaluation mode, so that a sample does not depend on its batch; no gradients."""
        networks = (self.generator, self.discriminator)
        modules = [getattr(network, "__self__", network) for network in networks]  # of a bound method
        with torch.no_grad(), evaluating(*(m for m in modules if isinstance(m, nn.Module))):
            yield
