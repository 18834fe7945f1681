"""Digits data set: correct boxes, disjoint splits, equal files, no overwriting."""

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.processes import run_command
from tools import make_digits as tool
from tools.datasets import digits as module
from tools.datasets import drawing
from tools.datasets.digits import Options, load_glyphs, make_digits
from tools.datasets.drawing import load_textures

SCRIPT = Path(tool.__file__)
SMALL = dict(train=6, val=4, size=(96, 128), scale=(12, 30), objects=(1, 5))


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', **SMALL)


def fingerprint(root):
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def annotations(root, split):
    return json.loads((root / 'annotations' / f'{split}.json').read_text())


def test_coco_reads_the_files_and_images_have_the_given_size(made):
    for split, count in (('train', 6), ('val', 4)):
        coco = COCO(str(made / 'annotations' / f'{split}.json'))
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list('0123456789')
        assert len(coco.imgs) == count == len(list((made / split).glob('*.jpg')))
        for image in coco.imgs.values():
            assert cv2.imread(str(made / split / image['file_name'])).shape == (96, 128, 3)
            assert (image['height'], image['width']) == (96, 128)
        for annotation in coco.anns.values():
            x, y, w, h = annotation['bbox']
            assert 0 <= x < x + w <= 128 and 0 <= y < y + h <= 96
            assert annotation['area'] == w * h and annotation['iscrowd'] == 0
    assert cv2.imread(str(made / 'sheet.png')) is not None


def test_equal_seeds_give_equal_files_and_other_seeds_do_not(made, tmp_path):
    again = make_digits(tmp_path / 'again', **SMALL)
    assert fingerprint(again) == fingerprint(made)
    other = make_digits(tmp_path / 'other', seed=1, **SMALL)
    assert (
        not fingerprint(other).items()
        & {name: code for name, code in fingerprint(made).items() if name.endswith('.jpg')}.items()
    )


def test_an_image_does_not_depend_on_the_number_of_images(made, tmp_path):
    more = make_digits(tmp_path / 'more', **{**SMALL, 'train': 9})
    assert (more / 'train/000005.jpg').read_bytes() == (made / 'train/000005.jpg').read_bytes()


def test_boxes_are_tight_around_the_visible_digits():
    """The digits change all four sides of their boxes, and nothing outside the boxes."""
    options = Options(size=(120, 160), scale=(16, 40), empty_fraction=0, objects=(3, 3))
    flat = [np.full((120, 160, 3), 128, np.uint8)]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, objects = module.draw_image(rng, options, load_glyphs()['train'], flat)
        assert objects
        changed = np.abs(image.astype(int) - 128).max(-1) > 0
        covered = np.zeros_like(changed)
        for _, (x, y, w, h) in objects:
            patch = changed[int(y) : int(y + h), int(x) : int(x + w)]
            assert patch[0].any() and patch[-1].any() and patch[:, 0].any() and patch[:, -1].any()
            covered[int(y) : int(y + h), int(x) : int(x + w)] = True
        assert not (changed & ~covered).any()


def test_digits_are_visible_on_a_grey_background():
    options = Options(size=(64, 64), scale=(30, 40), empty_fraction=0, objects=(1, 1))
    flat = [np.full((64, 64, 3), 128, np.uint8)]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, [(_, (x, y, w, h))] = module.draw_image(rng, options, load_glyphs()['train'], flat)
        patch = image[int(y) : int(y + h), int(x) : int(x + w)]
        grey = cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY).astype(int)
        assert np.abs(grey - 128).max() >= module.MIN_CONTRAST - 2  # rounding of the grey level


def test_overlap_stays_below_the_limit():
    options = Options(size=(64, 64), scale=(20, 30), empty_fraction=0, objects=(8, 8))
    rng, parts = np.random.default_rng(0), []
    glyphs, textures = load_glyphs()['val'], load_textures()['val']
    for _ in range(30):
        _, objects = module.draw_image(rng, options, glyphs, textures)
        boxes = [box for _, box in objects]
        for i, (x, y, w, h) in enumerate(boxes):
            for a, b, c, d in boxes[:i]:
                width, height = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
                parts.append(max(width, 0) * max(height, 0) / min(w * h, c * d))
    assert 0 < max(parts) <= options.max_overlap


def test_empty_fraction(tmp_path):
    for fraction in (0, 1):
        root = make_digits(tmp_path / str(fraction), empty_fraction=fraction, **SMALL)
        images = {
            annotation['image_id'] for annotation in annotations(root, 'train')['annotations']
        }
        assert len(images) == (0 if fraction else 6)


def test_splits_share_no_glyph():
    glyphs = load_glyphs()
    train, val = ({ink.tobytes() for _, ink in glyphs[split]} for split in ('train', 'val'))
    assert not train & val
    assert len(glyphs['train']) + len(glyphs['val']) == 1797
    for split in glyphs.values():
        assert {digit for digit, _ in split} == set(range(10))


def test_splits_share_no_part_of_a_texture():
    from skimage import data

    halves = load_textures()
    for name, train, val in zip(drawing.TEXTURES, halves['train'], halves['val'], strict=True):
        whole = getattr(data, name)()
        bgr = np.stack([whole] * 3, -1) if whole.ndim == 2 else whole[..., ::-1]
        np.testing.assert_array_equal(np.hstack([train, val]), bgr)


def test_a_repeated_call_changes_nothing(made, capsys):
    before = fingerprint(made)
    assert make_digits(made, **SMALL) == made
    assert 'already holds this data set' in capsys.readouterr().out
    assert fingerprint(made) == before


def test_other_options_raise_and_change_nothing(made):
    before = fingerprint(made)
    with pytest.raises(FileExistsError, match=r'seed=0 instead of 3.*remove .*--out'):
        make_digits(made, seed=3, **SMALL)
    assert fingerprint(made) == before


def test_a_folder_with_other_files_raises(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(FileExistsError, match=r'is not a digits data set; remove .*--out'):
        make_digits(tmp_path, **SMALL)
    assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_the_files_of_an_interrupted_run_are_removed(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(module, 'write_sheet', lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_digits(tmp_path / 'set', **SMALL)
    assert not (tmp_path / 'set').exists()
    make_digits(tmp_path / 'set', **SMALL)
    assert 'which an interrupted run left' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ['set']


@pytest.mark.parametrize(
    'wrong',
    [
        dict(train=0), dict(size=(8, 160)), dict(objects=(0, 3)), dict(objects=(4, 3)),
        dict(scale=(4, 9)), dict(scale=(20, 200)), dict(empty_fraction=1.5), dict(max_overlap=-1),
        dict(seed=-1),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_option_raises_with_the_allowed_values(wrong, tmp_path):
    with pytest.raises(ValueError, match=rf'cannot use .*{next(iter(wrong))}=.*: give '):
        make_digits(tmp_path / 'set', **wrong)
    assert not (tmp_path / 'set').exists()


def test_command_line(tmp_path):
    def run(*extra):
        command = [sys.executable, str(SCRIPT), '--out', 'set', '--train', '2', '--val', '2']
        return run_command([*command, *extra], cwd=tmp_path)

    first = run('--size', '64', '96', '--scale', '12', '24')
    assert first.returncode == 0 and 'val: 2 of 2 images' in first.stdout
    assert cv2.imread(str(tmp_path / 'set/train/000000.jpg')).shape == (64, 96, 3)
    second = run('--size', '64')
    assert second.returncode == 1
    assert second.stderr.count('\n') == 1 and 'size=[64, 96] instead of' in second.stderr


@pytest.mark.parametrize(
    ('package', 'load'), [('sklearn.datasets', load_glyphs), ('skimage', load_textures)]
)
def test_a_missing_package_is_one_message_with_the_command(monkeypatch, package, load):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"sk\w+.* is not installed: .*'mmdet_losses\[demo\]'"):
        load()
