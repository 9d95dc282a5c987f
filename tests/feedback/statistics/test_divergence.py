import numpy as np
import pytest
from scipy.stats import entropy

from feedback.statistics.divergence import jensen_shannon_distance, jensen_shannon_divergence

NAN = np.nan


def test_divergence_has_its_known_values() -> None:
    first = np.array([[1.0, 0.0], [0.5, 0.5], [NAN, NAN]])
    second = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(jensen_shannon_divergence(first, second), [1.0, 0.0, NAN], atol=1e-12)


def test_divergence_is_the_entropy_of_the_mixture_minus_the_mean_entropy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet(np.full(18, 0.3), 200), rng.dirichlet(np.full(18, 0.3), 200)
    mixture = entropy((first + second) / 2, base=2, axis=1)
    mean = (entropy(first, base=2, axis=1) + entropy(second, base=2, axis=1)) / 2
    np.testing.assert_allclose(jensen_shannon_divergence(first, second), mixture - mean, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_nearly_equal_distributions_have_no_distance() -> None:
    first = np.random.default_rng(0).dirichlet(np.ones(18), 1_000)
    second = first * (1 + 1e-9)
    distances = jensen_shannon_distance(first, second)
    assert np.isfinite(distances).all() and distances.max() < 1e-6
