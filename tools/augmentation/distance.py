"""A statistical test: are two sets of draws of one distribution?

Compared for every number of a draw: whether it is there at all (NaN marks a dropped box), its
distribution (two-sample Kolmogorov-Smirnov test), its spread (Levene's test), and of all pairs of
numbers the rank correlation (against permutations of the draws). The p-values are corrected by the
number of tests (Bonferroni).

Values closer than a tolerance count as equal: sets have atoms, and a box clipped at the last pixel
in one code and at the border in another is no difference worth a message.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 1e-4
TOLERANCE = (
    ('size*', 0.5), ('box*aspect', 0.03), ('box*scale', 0.03), ('box*', 0.004), ('cut*', 0.004),
    ('keypoint*', 0.004), ('prev_center*', 0.004), ('prev_*_shift*', 0.006),
    ('pair_shift*', 0.002), ('pair_scale*', 0.002), ('*mean_rgb*', 0.6), ('*std_rgb*', 0.6),
    ('fill_rgb*', 1.0), ('probe_rgb*', 1.5), ('*fill_fraction*', 0.012),
    ('visible_share*', 0.01), ('*', 1e-6),
)  # fmt: skip
"""The first pattern that fits a column's name gives its tolerance."""

PER_BOX = ('flip', 'visible_share', 'prev_lost', 'prev_false')
"""Arrays with one number per box or image; the last index of the others is a coordinate."""

Columns = dict[str, NDArray[np.float64]]


class Test(NamedTuple):
    """One comparison."""

    name: str
    distance: float
    """KS statistic, or difference of two shares."""
    p: float
    """Corrected by the number of tests."""
    text: str

    @property
    def differs(self) -> bool:
        """Whether chance does not explain the distance."""
        return self.p < ALPHA


def compare(
    official: Mapping[str, NDArray], ours: Mapping[str, NDArray], permutations: int = 30
) -> list[Test]:
    """All tests of two sets of draws, the largest distance first.

    Args:
        official, ours: arrays with one row per draw; columns in both are compared.
        permutations: of the draws, for the correlations; 0: no correlations.

    Raises:
        ValueError: the sets share no array.
    """
    one, two = columns(official), columns(ours)
    shared = [name for name in one if name in two]
    if not shared:
        raise ValueError(f'the sets share no quantity: {sorted(one)} and {sorted(two)}.')
    tests = [test for name in shared for test in _compare_column(name, one[name], two[name])]
    if permutations:
        tests += _compare_correlations(
            {name: one[name] for name in shared}, {name: two[name] for name in shared}, permutations
        )
    tests = [test._replace(p=min(1.0, test.p * len(tests))) for test in tests]
    return sorted(tests, key=lambda test: -test.distance)


def columns(draws: Mapping[str, NDArray]) -> Columns:
    """One column per number of a draw; of boxes also the logarithms of aspect and scale."""
    found: Columns = {}
    for key, array in draws.items():
        flat = np.asarray(array, np.float64).reshape(len(array), -1)
        for i, index in enumerate(np.ndindex(array.shape[1:])):
            name = key + ''.join(f'[{each}]' for each in index)
            found[name] = flat[:, i]
        if key == 'box':
            found.update(_shapes(array))
    return found


def _shapes(boxes: NDArray) -> Columns:
    """Logarithms of aspect and scale of boxes (n, K, 4) whose sides exceed 1 % of the input."""
    found: Columns = {}
    with np.errstate(invalid='ignore', divide='ignore'):
        sides = np.where(boxes[..., 2:] > 0.01, boxes[..., 2:], np.nan)
        for i, (w, h) in enumerate(sides.transpose(1, 2, 0)):
            found[f'box[{i}].aspect'] = np.log(w / h)
            found[f'box[{i}].scale'] = np.log(w * h) / 2
    return found


def _tolerance(name: str) -> float:
    return next(value for pattern, value in TOLERANCE if fnmatch.fnmatch(name, pattern))


def _compare_column(name: str, a: NDArray, b: NDArray) -> list[Test]:
    tests = []
    have, got = np.isfinite(a), np.isfinite(b)
    # The numbers of a box come and go together, and its colour with them: the first is enough.
    key = name.split('[')[0]
    leader = key in PER_BOX or name.endswith('[0]') or '[' not in name
    derived = key == 'probe_rgb' or name.endswith(('.aspect', '.scale'))
    if leader and not derived and not (have.all() and got.all()):
        tests.append(_shares(f'{name} present', have, got))
    a, b = a[have], b[got]
    if min(len(a), len(b)) < 20:
        return tests
    tolerance = _tolerance(name)
    values = np.unique(np.concatenate((a, b)))
    if len(values) <= 2 and np.ptp(values) > tolerance:  # not the rounding of one value
        return [*tests, _shares(f'{name} = {values[-1]:g}', a == values[-1], b == values[-1])]
    distance = ks_distance(a, b, tolerance)
    size = len(a) * len(b) / (len(a) + len(b))
    p = float(stats.kstwobign.sf(distance * np.sqrt(size))) if distance > 0 else 1.0
    p = 2 * min(p, _spread(a, b, tolerance))
    text = f'{a.mean():.4g} +- {a.std():.4g} | {b.mean():.4g} +- {b.std():.4g}'
    return [*tests, Test(name, distance, min(p, 1.0), text)]


def ks_distance(a: NDArray, b: NDArray, tolerance: float) -> float:
    """Largest difference of the distribution functions; values within the tolerance are equal."""
    a, b = np.sort(a), np.sort(b)

    def excess(low: NDArray, high: NDArray) -> float:
        steps = np.searchsorted(low, low, side='right') / len(low)
        return float((steps - np.searchsorted(high, low + tolerance, 'right') / len(high)).max())

    return max(0.0, excess(a, b), excess(b, a))


def _spread(a: NDArray, b: NDArray, tolerance: float) -> float:
    """p of equal spreads, outer percents cut off."""
    low, high = np.percentile(np.concatenate((a, b)), (1, 99))
    a, b = a.clip(low, high), b.clip(low, high)
    if min(len(a), len(b)) < 100 or max(a.std(), b.std()) < 2 * tolerance:
        return 1.0
    return float(stats.levene(a, b, center='median').pvalue)


def _shares(name: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Test:
    """Two columns of yes and no."""
    text, distance = f'{a.mean():.4f} | {b.mean():.4f}', abs(a.mean() - b.mean())
    table = np.array([[a.sum(), (~a).sum()], [b.sum(), (~b).sum()]])
    if not table.any(0).all():
        return Test(name, 0.0, 1.0, text)
    if table.sum(0).min() < 50:
        p = stats.fisher_exact(table)[1]
    else:
        p = stats.chi2_contingency(table, correction=False)[1]
    return Test(name, float(distance), float(p), text)


def _compare_correlations(one: Columns, two: Columns, permutations: int) -> list[Test]:
    """The largest difference of rank correlations, against permutations of the draws.

    Differences are in standard errors. Their maxima over permutations have a Gumbel distribution,
    whose two parameters follow from mean and deviation.
    """
    count = len(next(iter(one.values())))
    names = [name for name in one if not name.endswith(('aspect', 'scale'))]
    pool = np.stack([_ranks(np.concatenate((one[n], two[n])), _tolerance(n)) for n in names], 1)
    with np.errstate(all='ignore'):
        usable = [
            i for i in range(len(names))
            if min(_deviation(pool[:count, i]), _deviation(pool[count:, i])) > 0.12
        ]  # fmt: skip
    if len(usable) < 2:
        return []
    pool, names = pool[:, usable], [names[i] for i in usable]
    pairs = np.triu_indices(len(names), 1)

    def difference(order: NDArray) -> NDArray:
        (r, n), (s, m) = _correlations(pool[order[:count]]), _correlations(pool[order[count:]])
        with np.errstate(all='ignore'):
            return ((r - s) * np.sqrt(n * m / (n + m)))[pairs]

    z = np.nan_to_num(difference(np.arange(len(pool))))
    rng = np.random.default_rng(0)
    peaks = [
        np.abs(np.nan_to_num(difference(rng.permutation(len(pool))))).max()
        for _ in range(permutations)
    ]
    beta = max(np.std(peaks, ddof=1), 0.05) * np.sqrt(6) / np.pi
    mode = np.mean(peaks) - 0.5772 * beta
    top = int(np.abs(z).argmax())
    p = -np.expm1(-np.exp(-(abs(z[top]) - mode) / beta))
    text = f'{names[pairs[0][top]]} with {names[pairs[1][top]]}: {abs(z[top]):.1f} standard errors'
    return [Test('correlations', 0.0, float(p), text)]


def _ranks(values: NDArray, tolerance: float) -> NDArray:
    """Ranks in [-1/2, 1/2], NaN kept; values within the tolerance get about the same rank."""
    ranks = np.full(values.shape, np.nan)
    have = np.isfinite(values)
    steps = np.sort(values[have])
    low = np.searchsorted(steps, values[have] - tolerance)
    high = np.searchsorted(steps, values[have] + tolerance, side='right')
    ranks[have] = (low + high) / 2 / max(have.sum(), 1) - 0.5
    return ranks


def _deviation(values: NDArray) -> float:
    values = values[np.isfinite(values)]
    return float(values.std()) if len(values) else 0.0


def _correlations(table: NDArray) -> tuple[NDArray, NDArray]:
    """Correlations of all pairs of columns over the rows that have both, and the row counts."""
    have = np.isfinite(table).astype(np.float64)
    x = np.where(have > 0, table, 0)
    n = have.T @ have
    with np.errstate(all='ignore'):
        mean, square = x.T @ have / n, (x * x).T @ have / n
        covariance = x.T @ x / n - mean * mean.T
        variance = square - mean**2
        r = covariance / np.sqrt(variance * variance.T)
    r[(n < 300) | ~np.isfinite(r)] = np.nan
    return r, n
