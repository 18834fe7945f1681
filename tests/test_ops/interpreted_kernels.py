"""Triton kernels in Triton's interpreter, against the eager path: values and gradients.

``test_gpu_kernels.py`` runs the files ``interpreted_*.py`` in a process with
``TRITON_INTERPRET=1``:

    TRITON_INTERPRET=1 python -m pytest tests/test_ops/interpreted_kernels.py
"""

import functools
import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmdet_losses.losses import (
    PenaltyReducedFocalLoss,
    center_track_focal_loss,
    penalty_reduced_focal_loss,
    sigmoid_focal_loss,
)
from mmdet_losses.networks.corner_pool import running_max
from mmdet_losses.ops import (
    Splats,
    box_similarity,
    draw_gaussians,
    find_peaks,
    splat_gaussians,
    suppress_non_peaks,
)
from mmdet_losses.ops.kernels.launch import Launch, intercept_launches

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# The gradient of a map in half precision is rounded once; both paths compute in float32.
TOLERANCES = {
    torch.float32: {'rtol': 2e-5, 'atol': 1e-7},
    torch.float16: {'rtol': 2e-3, 'atol': 1e-6},
    torch.bfloat16: {'rtol': 1e-2, 'atol': 1e-6},
}


@pytest.fixture(autouse=True)
def _interpreter() -> None:
    assert os.environ.get('TRITON_INTERPRET') == '1', 'set TRITON_INTERPRET=1 before the start'


def value_and_slopes(
    function: Callable[[Tensor], Tensor], x: Tensor, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = function(leaf)
    (factor * value).sum().backward()
    return value.detach(), leaf.grad


def assert_equal_paths(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    launches: int,
    factor: float = 1.0,
    slack: float = 1.0,
) -> None:
    """The kernels and the eager path agree; the kernels take that number of launches.

    ``slack`` multiplies the tolerance.
    """
    want = value_and_slopes(function, x, factor)
    calls: list[Launch] = []

    def run(call: Launch) -> None:
        written = {id(output) for earlier in calls for output in earlier.outputs}
        for output in call.outputs:
            if id(output) not in written:  # an element that no kernel writes stays wrong
                output.fill_(float('nan') if output.is_floating_point() else -(10**6))
        calls.append(call)
        call.run()

    with intercept_launches(run):
        have = value_and_slopes(function, x, factor)
    for have_part, want_part in zip(have, want, strict=True):
        assert have_part.dtype == want_part.dtype
        tolerance = {key: slack * limit for key, limit in TOLERANCES[x.dtype].items()}
        if want_part.numel():  # the eager path adds to the background, and the sum may cancel
            tolerance['atol'] *= max(1.0, float(want_part.abs().max()))
        torch.testing.assert_close(have_part, want_part, **tolerance)
    assert len(calls) == launches, [call.name for call in calls]


def normal(*shape: int, scale: float = 3.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.manual_seed(0))).to(dtype)


def splats(images: int = 2, size: tuple[int, int, int] = (3, 7, 11), objects: int = 4) -> Splats:
    """Gaussians of random objects; the last slot of each image is empty."""
    generator = torch.manual_seed(1)
    high = torch.tensor([size[2], size[1]])
    xy = (torch.rand(images, objects, 2, generator=generator) * high).long()
    labels = torch.randint(size[0], (images, objects), generator=generator)
    radius = torch.randint(4, (images, objects), generator=generator)
    mask = torch.ones(images, objects, dtype=torch.bool)
    mask[:, -1:] = False
    return splat_gaussians(xy, radius, (2 * radius + 1) / 6, labels, mask, size, 4)


@pytest.mark.parametrize(
    ('options', 'dtype'),
    [
        ({}, torch.float32),
        ({}, torch.float16),
        ({'alpha': 1.5, 'beta': 3.0, 'clamp': 1e-2}, torch.float32),
        ({'alpha': 1.5, 'clamp': 1e-2}, torch.bfloat16),
        ({'normalizer': 'positives_per_image'}, torch.float32),
        ({'normalizer': 'positives_per_image'}, torch.bfloat16),
        ({'avg_factor': 2.5}, torch.float32),
        ({'avg_factor': torch.tensor(0), 'clamp': 1e-4}, torch.float32),
        ({'reduction': 'sum'}, torch.float16),
    ],
    ids=str,
)
def test_heatmap_focal_over_splats(options: dict, dtype: torch.dtype) -> None:
    target = splats()
    launches = 4 if dtype == torch.float32 else 5
    assert_equal_paths(
        lambda x: penalty_reduced_focal_loss(x, target, **options),
        normal(2, 3, 7, 11, dtype=dtype),
        launches,
        factor=1.0 if options else 0.25,
    )


@pytest.mark.parametrize('weight_shape', [(2, 1, 7, 11), (2, 3, 7, 11), (1, 3, 1, 1)], ids=str)
@pytest.mark.parametrize('dense', [False, True])
def test_heatmap_focal_with_weights(dense: bool, weight_shape: tuple[int, ...]) -> None:
    listed = splats()
    weight = torch.rand(weight_shape, generator=torch.manual_seed(2)) > 0.3
    if weight_shape[1] == 3:
        weight = weight * 0.7
    assert_equal_paths(
        lambda x: penalty_reduced_focal_loss(x, listed.dense() if dense else listed, weight),
        normal(2, 3, 7, 11),
        launches=3 if dense else 4,
        factor=0.5,
    )


def test_heatmap_focal_of_an_image_as_rows() -> None:
    target = splats(1).dense()[0].flatten(1).T.contiguous()
    assert_equal_paths(lambda x: penalty_reduced_focal_loss(x, target), normal(77, 3), launches=3)


@pytest.mark.parametrize('normalizer', ['positives', 'positives_per_image'])
def test_heatmap_focal_without_objects(normalizer: str) -> None:
    empty = Splats(torch.zeros(0, dtype=torch.int64), torch.zeros(0), (2, 1, 5, 3))
    assert_equal_paths(
        lambda x: penalty_reduced_focal_loss(x, empty, normalizer=normalizer),
        normal(2, 1, 5, 3),
        launches=3,
    )


def test_heatmap_focal_over_several_blocks() -> None:
    target = splats(3, (5, 29, 33), objects=30)
    assert target.index.numel() > 256
    loss = penalty_reduced_focal_loss
    assert_equal_paths(lambda x: loss(x, target), normal(3, 5, 29, 33), launches=4)


def test_padding_and_unsorted_splats_change_nothing() -> None:
    target = splats()
    order = torch.randperm(len(target.index), generator=torch.manual_seed(3))
    padded = Splats(
        torch.cat((target.index[order], torch.zeros(5, dtype=torch.int64))),
        torch.cat((target.value[order], torch.zeros(5))),
        target.shape,
    )
    x = normal(2, 3, 7, 11)
    x[0, 0, 0, 0] = 100.0
    assert_equal_paths(lambda x: penalty_reduced_focal_loss(x, padded), x, launches=4)


def test_extreme_logits_have_finite_gradients() -> None:
    x = torch.tensor([-1e4, -100.0, -12.0, 0.0, 12.0, 100.0, 1e4, 1.0]).view(1, 1, 2, 4)
    for gamma in (2.0, 0.5):
        loss = functools.partial(penalty_reduced_focal_loss, target=splats(1, (1, 2, 4), 2))
        assert_equal_paths(lambda x: loss(x, alpha=gamma), x, launches=4)  # noqa: B023


def test_a_retained_graph_gives_the_same_gradient_twice() -> None:
    target, x = splats(), normal(2, 3, 7, 11).requires_grad_()
    with intercept_launches():
        loss = 3 * penalty_reduced_focal_loss(x, target)
        first = torch.autograd.grad(loss, x, retain_graph=True)[0].clone()
        second = torch.autograd.grad(loss, x)[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize('factor', [0.3, 2.0])
def test_the_gradient_is_right_if_the_factor_is_not_the_expected_one(factor: float) -> None:
    target, x = splats(), normal(2, 3, 7, 11)
    term = PenaltyReducedFocalLoss(loss_weight=0.3)
    assert_equal_paths(lambda x: term(x, target), x, launches=4, factor=factor)


def test_the_expected_factor_is_applied_in_the_forward_pass() -> None:
    term, x = PenaltyReducedFocalLoss(loss_weight=0.3), normal(2, 3, 7, 11).requires_grad_()
    kept: list[Tensor] = []

    def run(call: Launch) -> None:
        before = [output.clone() for output in call.outputs]
        call.run()
        if call.name == 'rescale_kernel':
            kept.extend(before + call.outputs)

    with intercept_launches(run):
        term(x, splats()).backward()
    assert len(kept) == 2 and torch.equal(*kept)


def test_no_gradient_is_computed_without_a_graph() -> None:
    calls: list[Launch] = []
    with torch.no_grad(), intercept_launches(calls.append):
        penalty_reduced_focal_loss(normal(2, 3, 7, 11), splats())
    assert not any(call.constants.get('SLOPES') for call in calls)


@pytest.mark.parametrize(
    ('columns', 'dtype'),
    [(None, DTYPES[0]), (1, DTYPES[0]), (5, DTYPES[0]), (1, DTYPES[1]), (5, DTYPES[2])],
    ids=str,
)
def test_class_focal(columns: int | None, dtype: torch.dtype) -> None:
    generator = torch.manual_seed(4)
    labels = torch.randint(6, (2, 31), generator=generator)
    weight = None if columns is None else torch.rand(2, 31, columns, generator=generator)
    options = {'alpha': 0.3, 'gamma': 1.5} if columns == 5 else {'avg_factor': torch.tensor(7.0)}
    assert_equal_paths(
        lambda x: sigmoid_focal_loss(x, labels, weight, **options),
        normal(2, 31, 5, dtype=dtype),
        launches=3,
        factor=1.0 if columns else 2.0,
    )


@pytest.mark.parametrize(
    ('options', 'dtype', 'launches'),
    [
        ({}, torch.float32, 6),
        ({'factors': True, 'clamp': 1e-2}, torch.float32, 6),
        ({'reduction': 'sum'}, torch.bfloat16, 7),
    ],
    ids=str,
)
def test_center_track_focal(options: dict, dtype: torch.dtype, launches: int) -> None:
    options, target = dict(options), splats()
    index = torch.tensor([[9, 9, 30, 9], [34, 0, 76, 9]])
    labels = torch.tensor([[1, 1, 0, 1], [2, 0, 0, 1]])
    mask = torch.tensor([[True, True, True, True], [True, False, True, True]])
    if options.pop('factors', False):
        mask = mask * torch.tensor([0.5, 2.0, 1.0, 0.25])
    assert_equal_paths(
        lambda x: center_track_focal_loss(x, target, index, labels, mask, **options),
        normal(2, 3, 7, 11, dtype=dtype),
        launches,
        # both paths round the slope of the map before they add the slopes of the objects
        slack=1.0 if dtype == torch.float32 else 3.0,
    )


def test_the_sums_do_not_depend_on_the_order_of_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interpreter runs the programs of a launch from the first to the last, and backwards."""
    from triton.runtime import interpreter

    target, x = splats(3, (5, 29, 33), objects=30), normal(3, 5, 29, 33)
    labels = torch.randint(6, (2, 700), generator=torch.manual_seed(4))
    index, mask = torch.arange(90).view(3, 30), torch.ones(3, 30, dtype=torch.bool)
    cases = [
        (lambda x: penalty_reduced_focal_loss(x, target), x),
        (lambda x: center_track_focal_loss(x, target, index, index % 5, mask), x),
        (lambda x: sigmoid_focal_loss(x, labels), normal(2, 700, 5)),
    ]
    builder, runs, places = interpreter.interpreter_builder, [], []
    set_place = builder.set_grid_idx
    monkeypatch.setattr(
        builder, 'set_grid_idx', lambda *at: (places.append(at), set_place(*at)), raising=False
    )
    for order in (range, lambda *ends: range(*ends)[::-1]):
        monkeypatch.setattr(interpreter, 'range', order, raising=False)
        places.clear()
        with intercept_launches():
            runs.append([part for case in cases for part in value_and_slopes(*case)])
        assert max(places) > (1, 0, 0) and (places[0] == (0, 0, 0)) == (order is range)
    for have, want in zip(*runs, strict=True):
        assert torch.equal(have, want)


EMPTY: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    'heatmaps of no image': (
        lambda x: penalty_reduced_focal_loss(x, torch.zeros_like(x)),
        torch.zeros(0, 3, 4, 5),
    ),
    'heatmap of an empty image': (
        lambda x: penalty_reduced_focal_loss(x, torch.zeros_like(x)),
        torch.zeros(2, 3, 0, 5),
    ),
    'no anchor': (
        lambda x: sigmoid_focal_loss(x, torch.zeros(2, 0, dtype=torch.int64)),
        torch.zeros(2, 0, 5),
    ),
    'no object of CenterTrack': (
        lambda x: center_track_focal_loss(
            x,
            splats(2, (3, 7, 11), objects=0),
            *torch.zeros(2, 2, 0, dtype=torch.int64),
            torch.zeros(2, 0, dtype=torch.bool),
        ),
        normal(2, 3, 7, 11),
    ),
    'no pair of boxes': (lambda x: box_similarity(x, x.detach(), 'giou'), torch.zeros(0, 4)),
    'no line': (lambda x: running_max(x, 2, False), torch.zeros(2, 0, 7, 11)),
    'no cell': (lambda x: running_max(x, 2, True), torch.zeros(2, 3, 0, 11)),
}


@pytest.mark.parametrize('name', EMPTY)
def test_empty_inputs(name: str) -> None:
    want = value_and_slopes(*EMPTY[name])
    with intercept_launches():
        have = value_and_slopes(*EMPTY[name])
    torch.testing.assert_close(have, want)


@pytest.mark.parametrize('channels', [80, 1])
def test_gaussians_without_objects(channels: int) -> None:
    with intercept_launches():
        target = splats(2, (channels, 9, 13), objects=0)
    assert target.shape == (2, channels, 9, 13) and not target.dense().any()


@pytest.mark.parametrize(
    ('kernel', 'dtype'), [(3, DTYPES[0]), (3, DTYPES[1]), (5, DTYPES[2])], ids=str
)
def test_peaks(kernel: int, dtype: torch.dtype) -> None:
    logits = normal(2, 1, 9, 13, dtype=dtype)
    logits[0, 0, 2, 3:5] = 20.0  # a plateau
    logits[1, 0, 0, 0], logits[1, 0, 0, 1] = 30.0, 29.0  # equal scores in float32
    want, want_scores = find_peaks(logits, 4, kernel), suppress_non_peaks(logits, kernel)
    calls: list[Launch] = []
    with intercept_launches(lambda call: (calls.append(call), call.run())):
        have, have_scores = find_peaks(logits, 4, kernel), suppress_non_peaks(logits, kernel)
    assert len(calls) == 2
    torch.testing.assert_close(have_scores, want_scores, rtol=0, atol=0)
    torch.testing.assert_close(have.scores, want.scores)
    for have_part, want_part in zip(have[1:], want[1:], strict=True):
        assert have_part[have.scores < 1].tolist() == want_part[want.scores < 1].tolist()


def test_peaks_of_an_empty_batch() -> None:
    with intercept_launches():
        assert find_peaks(torch.zeros(0, 3, 4, 4), 2).scores.shape == (0, 2)


@pytest.mark.parametrize('size', [(2, 40, 60), (1, 6, 9)], ids=['listed', 'dense'])
def test_gaussian_splats(size: tuple[int, int, int]) -> None:
    want = splats(2, size, objects=6)
    calls: list[Launch] = []
    with intercept_launches(lambda call: (calls.append(call), call.run())):
        have = splats(2, size, objects=6)
    assert have.is_dense == (size[0] == 1)
    assert len(calls) == 1
    torch.testing.assert_close(have.dense(), want.dense(), rtol=1e-5, atol=1e-7)
    if not have.is_dense:
        present = have.index[have.value > 0]
        assert len(present) == len(want.index) == len(present.unique())
        assert (have.index[have.value == 0] == 0).all()


def test_drawn_gaussians() -> None:
    xy = torch.tensor([[[2, 3], [8, 0], [0, 0]], [[5, 5], [5, 6], [4, 4]]])
    radius, sigma = torch.tensor([[2, 1, 3]] * 2), torch.tensor([[0.8, 0.5, 1.2]] * 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    want = draw_gaussians(xy, radius, sigma, mask, (7, 9))
    with intercept_launches():
        have = draw_gaussians(xy, radius, sigma, mask, (7, 9))
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize(
    ('dim', 'dtype'), [(2, DTYPES[0]), (3, DTYPES[0]), (2, DTYPES[1]), (3, DTYPES[2])], ids=str
)
def test_running_maximum(dim: int, dtype: torch.dtype, reverse: bool) -> None:
    x = normal(2, 3, 7, 11, dtype=dtype).round()  # with equal cells
    factor = normal(2, 3, 7, 11)
    assert_equal_paths(lambda x: factor * running_max(x, dim, reverse), x, launches=2)
