"""Discriminator rejection sampling: the same samples however the work is cut, one by one among it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from rejection_ranks import generate, rising, sample_in_ranks
from test_rejection_sampler import LOG_M, sampler_of

from genfast.models import DCGAN
from genfast.reference import rejection_accept
from genfast.sampling import (
    DiscriminatorRejectionSampler,
)


@pytest.mark.parametrize("settings", [{}, {"gamma": -1.0}, {"percentile": 80}], ids=str)
def test_batch_size_does_not_matter(settings: dict[str, float]) -> None:
    results = []
    for batch_size in (1000, 7, 333):
        sampler = sampler_of(rising, batch_size=batch_size, seed=3, **settings)
        sampler.burn_in(300)
        results.append((sampler.sample(150), sampler.state))
    for x, state in results[1:]:
        assert torch.equal(x, results[0][0])
        assert state == results[0][1]


def test_two_calls_give_what_one_gives() -> None:
    one, two = sampler_of(rising, percentile=70), sampler_of(rising, percentile=70)
    for sampler in (one, two):
        sampler.burn_in(3000)
    assert torch.equal(one.sample(801), torch.cat([two.sample(n) for n in (1, 0, 300, 500)]))
    assert one.state == two.state


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    settings = {"seed": 5, "batch_size": 64, "percentile": 80.0}
    torch.multiprocessing.spawn(sample_in_ranks, (2, str(tmp_path), settings), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    alone = sampler_of(rising, **settings)
    alone.burn_in(1000)
    parts = [*alone.batches(301), *alone.batches(400)]
    assert found[0]["state"] == found[1]["state"] == alone.state
    assert all(len(one["samples"]) > 200 for one in found)
    numbers, order = torch.cat([one["numbers"] for one in found]).sort()
    assert torch.equal(numbers, torch.cat([part.numbers for part in parts]))
    samples = torch.cat([one["samples"] for one in found])[order]
    assert torch.equal(samples, torch.cat([part.samples for part in parts]))


def test_a_sampler_goes_on_from_its_state() -> None:
    whole = sampler_of(rising, percentile=80, seed=-4)
    whole.burn_in(2000)
    whole.sample(100)
    saved = whole.state_dict()
    json.dumps({name: value for name, value in saved.items() if name != "logits"})
    fresh = sampler_of(rising, percentile=80, seed=-4)
    fresh.load_state_dict(saved)
    expected = whole.sample(900)
    assert torch.equal(fresh.sample(900), expected)
    assert fresh.state == whole.state
    with pytest.raises(ValueError, match="state is of seed -4, but this sampler has seed 0"):
        sampler_of(rising).load_state_dict(saved)
    with pytest.raises(ValueError, match="state must have accepted"):
        fresh.load_state_dict({"seed": -4})


def test_the_definition_one_by_one() -> None:
    """The whole stream of proposals through the plain definition: the same samples, and stale ones."""
    from genfast.sampling import uniforms

    sampler = sampler_of(rising, batch_size=50)
    sampler.burn_in(100)
    x = sampler.sample(300)
    n = sampler.state.proposals
    proposals = generate(sampler._latents(n, 0, 0))
    logits = rising(proposals)
    draws = uniforms(0x9E3779B97F4A7C15, torch.arange(n // 4 + 1), 0, 4).flatten()[100:n]
    accept, log_m = rejection_accept(logits[100:], draws, logits[:100].max())
    assert torch.equal(proposals[100:][accept], x)
    assert accept[-1]
    assert sampler.state.log_m == log_m
    seen = torch.maximum(logits[:100].max(), logits[100:].cummax(0).values)
    assert sampler.state.stale == int((accept & (seen < log_m)).sum()) > 0


def test_stale_acceptances_are_none_when_the_maximum_is_known() -> None:
    sampler = sampler_of(log_m=LOG_M + 1e-3)
    sampler.sample(1000)
    assert sampler.state.stale == 0
    assert sampler.state.burned_in == 0


def test_networks_run_in_evaluation_mode() -> None:
    """Batch normalisation and dropout would make a sample depend on its batch."""
    torch.manual_seed(0)
    model = DCGAN((1, 8, 8), levels=17, width=4, latent_dim=6).train()
    results = []
    for batch_size in (64, 9):
        sampler = DiscriminatorRejectionSampler.from_model(model, percentile=60, batch_size=batch_size)
        sampler.burn_in(128)
        results.append(sampler.sample(20))
    assert model.training
    assert model.generator.training
    assert results[0].shape == (20, 1, 8, 8)
    assert (results[0] - results[1]).abs().max() < 1e-5
