"""Training input of YOLOv4, by the rules of AlexeyAB's darknet."""
# ruff: noqa: NPY002 (what the transforms draw from)

import cv2
import numpy as np
import pytest

from mmdet_losses.data import darknet_mosaic
from mmdet_losses.data.darknet_mosaic import DarknetJitter, DarknetMosaic, Window, cut_window
from tests.test_data.samples import boxes_of, item, ramp

PLAIN = dict(hue=0, saturation=1, exposure=1, flip=False)


def slow_window(image, window, size):
    """A window by the rule, pixel by pixel, resized."""
    height, width = image.shape[:2]
    mean = np.rint(image.reshape(-1, 3).mean(0))
    rows, columns = (
        range(window.top, height - window.bottom),
        range(window.left, width - window.right),
    )
    cut = np.array([
        [image[y, x] if 0 <= y < height and 0 <= x < width else mean for x in columns]
        for y in rows
    ])  # fmt: skip
    return cv2.resize(cut.astype(np.uint8), size)


@pytest.mark.parametrize(
    'window',
    [Window(0, 0, 0, 0), Window(7, 3, 10, 5), Window(-9, 4, -3, -8), Window(20, -6, -20, 6)],
)
def test_the_window_has_the_mean_colour_outside(window):
    image = ramp(60, 80)
    assert np.array_equal(cut_window(image, window, (48, 32)), slow_window(image, window, (48, 32)))


@pytest.mark.parametrize(
    'window',
    [Window(0, 0, 0, 0), Window(7, 3, 10, 5), Window(-30, 4, -20, -25), Window(60, -40, -60, 6)],
)
def test_a_part_of_a_window_equals_the_whole_one(window):
    """Parts may lie completely in the border."""
    image, size = ramp(60, 80), (48, 70)
    whole = slow_window(image, window, size)
    rng = np.random.default_rng(0)
    for x1, y1, x2, y2 in [(0, 0, 10, 70), (40, 60, 48, 70), *rng.integers(0, 48, (20, 4))]:
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        part = cut_window(image, window, size, (x1, y1, x2, y2))
        assert part.shape[:2] == (y2 - y1, x2 - x1)
        assert np.abs(part.astype(int) - whole[y1:y2, x1:x2]).max(initial=0) <= 1


@pytest.mark.parametrize('flip', [False, True])
def test_boxes_follow_the_window(flip, monkeypatch):
    monkeypatch.setattr(DarknetJitter, '_window', lambda *_: Window(10, -6, 6, 2))
    monkeypatch.setattr(darknet_mosaic, 'coin', lambda *_: flip)
    boxes = [[20, 10, 40, 30], [-20, -20, 200, 200], [0, 0, 9, 9]]
    results = DarknetJitter((64, 64), **{**PLAIN, 'flip': True})(item(boxes))
    order = results['gt_bboxes_labels'].argsort()
    assert results['gt_bboxes_labels'][order].tolist() == [0, 1]  # the third is cut away
    left, right = 10 * 64 / 64, 30 * 64 / 64
    if flip:
        left, right = 64 - right, 64 - left
    wanted = [[left, 16 * 64 / 64, right, 36 * 64 / 64], [0, 0, 64, 64]]
    assert np.allclose(boxes_of(results)[order], wanted, atol=1e-4)


def test_margins_have_the_range_of_jitter_and_resize():
    """Without resize four independent margins; resize adds numbers that both axes share."""
    np.random.seed(0)
    drawn = np.array([DarknetJitter(jitter=0.3)._window((200, 100), (64, 64)) for _ in range(2000)])
    assert drawn.min(0).tolist() == [-59, -29, -59, -29]
    assert drawn.max(0).tolist() == [59, 29, 59, 29]
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1
    drawn = np.array(
        [DarknetJitter(jitter=0, resize=1.5)._window((200, 100), (64, 64)) for _ in range(2000)]
    )
    assert drawn.min(0).tolist() == pytest.approx([-49, -24, -49, -24], abs=1)
    assert drawn.max(0).tolist() == pytest.approx([32, 15, 32, 15], abs=1)
    correlation = np.corrcoef(drawn.T)
    assert correlation[0, 1] > 0.99
    assert correlation[2, 3] > 0.99
    assert abs(correlation[0, 2]) < 0.1


@pytest.mark.parametrize('source', [(200, 100), (100, 200)])
def test_a_letter_box_keeps_the_aspect(source):
    window = DarknetJitter(jitter=0, letter_box=True)._window(source, (64, 64))
    assert source[0] - window.left - window.right == source[1] - window.top - window.bottom == 200


def naive_mosaic(tiles, windows, flips, cut, size):
    """The official loops over whole tiles."""
    canvas = np.zeros((size, size, 3), np.uint8)
    shifts = []
    for number, (image, window, flip) in enumerate(zip(tiles, windows, flips, strict=True)):
        height, width = image.shape[:2]
        tile = slow_window(image, window, (size, size))
        left, top, right, bottom = window
        if flip:
            tile, left, right = tile[:, ::-1], right, left
        left_shift = min(cut[0], max(0, int(-left * size / width)))
        top_shift = min(cut[1], max(0, int(-top * size / height)))
        right_shift = min(size - cut[0], max(0, int(-right * size / width)))
        bottom_shift = min(size - cut[1], max(0, int(-bottom * size / height)))
        dx = [-(size - cut[0] - right_shift), cut[0] - left_shift][number % 2]
        dy = [-(size - cut[1] - bottom_shift), cut[1] - top_shift][number // 2]
        for y in range(size):
            for x in range(size):
                if (x >= cut[0]) == (number % 2 == 1) and (y >= cut[1]) == (number >= 2):
                    canvas[y, x] = tile[y - dy, x - dx]
        shifts.append((dx, dy))
    return canvas, shifts


@pytest.mark.parametrize('seed', range(4))
def test_a_mosaic_equals_the_official_loops(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    size, shapes = 48, [(60, 80), (50, 40), (44, 70), (64, 64)]
    windows = [Window(*rng.integers(-20, 15, 4).tolist()) for _ in shapes]
    flips = rng.random(4) < 0.5
    cut = rng.integers(10, 38, 2).tolist()
    drawn_windows, drawn_cut = iter(windows), iter(cut)
    coins = iter([coin for flip in flips for coin in (flip, False)])
    monkeypatch.setattr(DarknetMosaic, '_window', lambda *_: next(drawn_windows))
    monkeypatch.setattr(darknet_mosaic, 'coin', lambda *_: next(coins))
    monkeypatch.setattr(darknet_mosaic, 'whole_number', lambda *_: next(drawn_cut))
    monkeypatch.setattr(DarknetMosaic, '_colors', lambda self, image: image)
    tiles = [item([[10, 12, 30, 40]], shape) for shape in shapes]
    for k, tile in enumerate(tiles):
        tile['gt_bboxes_labels'] += k
    images = [tile['img'] for tile in tiles]
    results = DarknetMosaic((size, size))({**tiles[0], 'mix_results': tiles[1:]})
    canvas, shifts = naive_mosaic(images, windows, flips, cut, size)
    assert np.array_equal(results['img'], canvas)
    assert results['mosaic_cut'] == tuple(cut)
    for box, k in zip(boxes_of(results), results['gt_bboxes_labels'], strict=True):
        (height, width), window = shapes[k], windows[k]
        scale = np.divide(
            size, [width - window.left - window.right, height - window.top - window.bottom]
        )
        corners = (np.array([[10, 12], [30, 40]]) - window[:2]) * scale
        if flips[k]:
            corners[:, 0] = size - corners[::-1, 0]
        wanted = (corners.clip(0, size) + shifts[k]).clip(0, size).ravel()
        assert np.allclose(box, wanted, atol=1e-3)


@pytest.mark.parametrize('number', range(4))
@pytest.mark.parametrize('flip', [False, True])
def test_summed_margins_face_the_middle_of_the_mosaic(number, flip):
    window = darknet_mosaic._summed(
        Window(1, 2, 4, 8), right=(number in (0, 2)) != flip, bottom=number in (0, 1)
    )
    left, right = (window.right, window.left) if flip else (window.left, window.right)
    assert (left, right) == ((0, 5) if number in (0, 2) else (5, 0))
    assert (window.top, window.bottom) == ((0, 10) if number in (0, 1) else (10, 0))


def test_half_of_the_draws_are_mosaics():
    np.random.seed(0)
    transform = DarknetMosaic()
    counts = [len(transform.get_indexes(range(5))) for _ in range(1000)]
    assert set(counts) == {0, 3}
    assert counts.count(3) == pytest.approx(500, abs=60)
    assert len(DarknetMosaic(prob=1).get_indexes(range(5))) == 3


@pytest.mark.parametrize('bound', [False, True])
def test_boxes_stay_in_their_tile_on_request(bound):
    np.random.seed(0)
    leaves = 0
    for _ in range(20):
        tiles = [item([[5, 5, 75, 55]]) for _ in range(4)]
        transform = DarknetMosaic((64, 64), mosaic_bound=bound)
        for k, tile in enumerate(tiles):
            tile['gt_bboxes_labels'] += k
        results = transform({**tiles[0], 'mix_results': tiles[1:]})
        low, high = boxes_of(results)[:, :2], boxes_of(results)[:, 2:]
        labels, cut = results['gt_bboxes_labels'], np.array(results['mosaic_cut'])
        after = np.stack((labels % 2 == 1, labels >= 2), 1)
        leaves += (np.where(after, cut - low, high - cut) > 1e-4).any()
    assert (leaves == 0) if bound else (leaves > 5)  # about half of the mosaics


def test_objects_of_a_mosaic_are_limited_and_the_whole_input_is_no_object():
    np.random.seed(0)
    many = [[i, 10, i + 20, 50] for i in range(30)]
    for _ in range(10):
        tiles = [item(many) for _ in range(4)]
        results = DarknetMosaic((64, 64), max_objects=40)({**tiles[0], 'mix_results': tiles[1:]})
        assert 0 < len(results['gt_bboxes']) <= 40
        tiles = [item([[-500, -500, 900, 900]]) for _ in range(4)]
        results = DarknetMosaic((64, 64))({**tiles[0], 'mix_results': tiles[1:]})
        sides = boxes_of(results)[:, 2:] - boxes_of(results)[:, :2]
        assert (sides < 64).all()


def test_colours_are_those_of_opencv_bytes(monkeypatch):
    """``hsv[1] *= 1.337`` of an 8-bit matrix rounds and saturates; so does the added hue.

    No product is halfway between two levels, where float32 and float64 round differently.
    """
    monkeypatch.setattr(np.random, 'uniform', lambda *_: -0.08)
    factors = iter((1.337, 0.803))
    monkeypatch.setattr(darknet_mosaic, 'scale_or_inverse', lambda _: next(factors))
    image = ramp(40, 50)
    found = DarknetJitter()._colors(image)
    h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    changed = (
        np.maximum(np.rint(h - 179 * 0.08), 0),
        np.minimum(np.rint(s * 1.337), 255),
        np.rint(v * 0.803),
    )
    hsv = np.stack(changed, -1).astype(np.uint8)
    assert np.array_equal(found, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


def test_images_are_made_at_the_drawn_size():
    np.random.seed(0)
    for transform in (DarknetJitter(), DarknetMosaic(prob=1)):
        tiles = [{**item([[10, 10, 40, 40]]), 'input_size': (96, 96)} for _ in range(4)]
        results = transform({**tiles[0], 'mix_results': tiles[1:]})
        assert results['img'].shape == (96, 96, 3)


def test_mosaic_and_letter_box_exclude_each_other():
    with pytest.raises(ValueError, match='letter_box=True is not supported, as in darknet'):
        DarknetMosaic(letter_box=True)
