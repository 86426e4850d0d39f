"""Closed forms of the adversarial chapter, none of which needs a trained model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genfast.divergences import gan_value, js, kl, optimal_discriminator, wasserstein_1d
from genfast.games import play

LOG_2 = math.log(2)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_laws(count: int, size: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.rand(2, count, size, generator=generator, dtype=torch.float64)
    return p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)


# ---- divergences ---------------------------------------------------------------------------------


def test_five_shovels_of_earth() -> None:
    assert wasserstein_1d(numbers(3, 2, 1, 4), numbers(1, 2, 4, 3)) == 5


def test_wasserstein_is_the_distance_of_sorted_points() -> None:
    """For n points of equal mass each: the sum of |x_(i) - y_(i)|."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 30, (2, 20), generator=generator)
    p, q = torch.bincount(x, minlength=30).double(), torch.bincount(y, minlength=30).double()
    assert wasserstein_1d(p, q) == (x.sort().values - y.sort().values).abs().sum()


def test_kl_is_the_logarithm_of_a_ratio() -> None:
    """sum q log(q / p), not sum q (log q / log p), which is a misprint."""
    p, q = random_laws(5)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    )
    torch.testing.assert_close(kl(p, q), expected, rtol=1e-12, atol=0)
    misprint = (p * (p.log() / q.log())).sum(-1)
    assert (misprint - expected).abs().min() > 0.1
    assert kl(p, p).abs().max() <= 1e-15
    assert kl(numbers(0, 1), numbers(0.5, 0.5)) == LOG_2
    assert kl(numbers(0.5, 0.5), numbers(0, 1)) == math.inf


def test_js_lies_between_0_and_log_2() -> None:
    p, q = random_laws(50)
    assert (js(p, q) > 0).all()
    assert (js(p, q) < LOG_2).all()
    torch.testing.assert_close(js(p, q), js(q, p), rtol=1e-14, atol=0)
    assert js(p, p).abs().max() <= 1e-15


@pytest.mark.parametrize("theta", [1, 3, 17])
def test_parallel_lines(theta: int) -> None:
    """Two lines a distance apart: JS is log 2 wherever they are, KL infinite, W1 the distance."""
    p, q = torch.zeros(20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64)
    p[0], q[theta] = 1, 1
    assert abs(js(p, q).item() - LOG_2) <= 1e-15
    assert kl(p, q) == math.inf
    assert wasserstein_1d(p, q) == theta
    assert js(p, p) == wasserstein_1d(p, p) == 0


def test_gradients_know_masses_of_zero() -> None:
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    p = numbers(0.5, 0, 0.2, 0.3, 0, 0)
    for divergence in (kl, js, wasserstein_1d):
        (gradient,) = torch.autograd.grad(divergence(p, logits.softmax(0)), logits)
        assert gradient.isfinite().all()
    assert torch.autograd.gradcheck(lambda x: kl(p, x.softmax(0)), logits)
    assert torch.autograd.gradcheck(lambda x: js(p, x.softmax(0)), logits)


# ---- the game ------------------------------------------------------------------------------------


def test_the_optimum_is_minus_2_log_2() -> None:
    p, q = random_laws(20)
    torch.testing.assert_close(
        gan_value(p, p), torch.full((20,), -2 * LOG_2, dtype=torch.float64), rtol=1e-14, atol=0
    )
    torch.testing.assert_close(gan_value(p, q), 2 * js(p, q) - 2 * LOG_2, rtol=1e-12, atol=1e-14)
    assert (gan_value(p, q) > -2 * LOG_2).all()


def test_the_optimal_discriminator_maximises() -> None:
    """D ascends: its optimum is a maximum of V, and gradient ascent finds p_r / (p_r + p_g)."""
    p, q = random_laws(1)
    best = optimal_discriminator(p, q)
    torch.testing.assert_close(best, p / (p + q), rtol=1e-15, atol=0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        other = (best + 0.1 * torch.randn(best.shape, generator=generator, dtype=torch.float64)).clamp(
            0, 1
        )
        assert gan_value(p, q, other) < gan_value(p, q)
    logits = torch.zeros_like(p, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        minus = -gan_value(p, q, logits.sigmoid()).sum()
        minus.backward()
        return minus

    optimiser.step(loss)
    assert (logits.sigmoid() - best).abs().max() < 1e-4


def test_where_neither_law_has_mass_any_discriminator_is_optimal() -> None:
    assert optimal_discriminator(numbers(3, 0, 0), numbers(1, 0, 2)).tolist() == [0.75, 0.5, 0]


@pytest.mark.parametrize("c", [0.01, 0.5])
@pytest.mark.parametrize("shift", [0.5, -3.0])
def test_a_linear_clipped_critic_measures_c_times_w1(c: float, shift: float) -> None:
    """Trained as WGAN trains it: RMSprop on the difference of means, weights clamped after each step."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(64, 1, generator=generator, dtype=torch.float64)
    critic = torch.nn.Linear(1, 1, dtype=torch.float64)
    optimiser = torch.optim.RMSprop(critic.parameters(), lr=c / 20)
    for _ in range(100):
        optimiser.zero_grad()
        (critic(real + shift).mean() - critic(real).mean()).backward()
        optimiser.step()
        with torch.no_grad():
            for weight in critic.parameters():
                weight.clamp_(-c, c)
    value = (critic(real).mean() - critic(real + shift).mean()).item()
    assert abs(value - c * abs(shift)) <= 1e-12


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: kl([1.0], numbers(1)), TypeError, "p must be"),
        (lambda: kl(numbers(1).float(), numbers(1)), TypeError, "q has dtype"),
        (lambda: js(numbers(1, 2), numbers(1, 2, 3)), ValueError, "q of shape"),
        (lambda: js(numbers(2, -1), numbers(0, 1)), ValueError, "p must not have negative"),
        (lambda: kl(numbers(1, 0), numbers(math.nan, 1)), ValueError, "q must not have negative or NaN"),
        (lambda: wasserstein_1d(numbers(1, 2), numbers(1, 1)), ValueError, "equal totals, got 3 and 2"),
        (lambda: kl(torch.tensor(1.0), torch.tensor(1.0)), ValueError, "at least one dimension"),
        (lambda: gan_value(numbers(1), numbers(1), numbers(1.5)), ValueError, "discriminator must be"),
    ],
)
def test_bad_input_is_named(call, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


# ---- cycling -------------------------------------------------------------------------------------

ETA, STEPS, CONSENSUS = 0.1, 100, 0.7


def radii(method: str, x: float = 1.0, y: float = 1.0, steps: int = STEPS) -> Tensor:
    """Distance from the equilibrium of x * y in units of the first."""
    xs, ys = play(
        lambda x, y: x * y,
        torch.tensor(x, dtype=torch.float64),
        torch.tensor(y, dtype=torch.float64),
        steps=steps,
        lr=ETA,
        method=method,
        consensus=CONSENSUS,
    )
    distance = torch.hypot(xs, ys)
    return distance / distance[0]


@pytest.mark.parametrize("start", [(1.0, 1.0), (1.0, -2.0), (-0.3, 0.1)])
@pytest.mark.parametrize(
    ("method", "factor"),
    [
        ("simultaneous", 1 + ETA**2),
        ("extragradient", 1 - ETA**2 + ETA**4),
        ("consensus", (1 - ETA * CONSENSUS) ** 2 + ETA**2),
    ],
)
def test_radius_at_every_step(method: str, factor: float, start: tuple[float, float]) -> None:
    """Away from the equilibrium or towards it by the same factor at every step, whatever the signs."""
    exact = numbers(*(factor ** (n / 2) for n in range(STEPS + 1)))
    assert ((radii(method, *start) / exact) - 1).abs().max() <= 1e-12


def test_simultaneous_play_after_100_steps() -> None:
    assert abs(radii("simultaneous")[-1].item() - 1.01**50) <= 1e-12


def test_alternating_play_neither_leaves_nor_arrives() -> None:
    """x^2 + y^2 - eta x y is kept: an ellipse, round which it goes for ever."""
    one = torch.ones((), dtype=torch.float64)
    x, y = play(lambda x, y: x * y, one, one, steps=5000, lr=ETA, method="alternating")
    invariant = x * x + y * y - ETA * x * y
    assert (invariant / invariant[0] - 1).abs().max() <= 1e-12
    assert radii("alternating", steps=5000)[-100:].max() > 0.9


def test_what_converges() -> None:
    assert radii("extragradient", steps=2000)[-1] < 1e-4
    assert radii("consensus", steps=2000)[-1] < 1e-12


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"method": "newton"}, "method must be one of simultaneous"),
        ({"steps": -1}, "steps must be"),
        ({"lr": 0}, "lr must be"),
        ({"consensus": -1}, "consensus must be"),
    ],
)
def test_bad_play_is_named(keywords, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        play(lambda x, y: x * y, torch.ones(()), torch.ones(()), **{"steps": 1, "lr": 0.1, **keywords})
