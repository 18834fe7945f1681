"""Patches of the installed stack, and MMDetection on MMCV without compiled operators."""

import json
import sys
from collections.abc import Iterator
from unittest.mock import MagicMock

import pytest
import torch
from mmengine.utils.dl_utils.misc import mmcv_full_available
from torch import Tensor

from mmdet_losses import compat
from tests.processes import ROOT, run_command

HIDDEN = """
import sys
sys.modules['mmcv._ext'] = None
import mmdet_losses, mmdet.models
print('imported')
"""
StandIn = compat.mmcv_ops._ExtensionStandIn


def run_hidden(code: str) -> list[str]:
    """Lines that code prints in a fresh process where ``mmcv._ext`` does not exist."""
    return run_fresh(HIDDEN + code)


def run_fresh(code: str) -> list[str]:
    """Lines that code prints after 'imported' in a fresh process."""
    done = run_command([sys.executable, '-c', code], cwd=ROOT, env={'PYTHONPATH': ROOT})
    assert done.returncode == 0, done.stderr
    return done.stdout.partition('imported\n')[2].splitlines()  # the forks print on import


def crowds() -> Iterator[tuple[Tensor, Tensor]]:
    """Random boxes with high overlap, and their scores: none, one and many."""
    generator = torch.Generator().manual_seed(3)
    for number in (0, 1, 2, 7, 40, 90):
        low = torch.rand(number, 2, generator=generator) * 20
        size = torch.rand(number, 2, generator=generator) * 15
        yield torch.cat([low, low + size], dim=1), torch.rand(number, generator=generator)


@pytest.fixture
def compiled() -> object:
    if not compat.has_mmcv_ops():
        pytest.skip('MMCV has no compiled operators here to compare with')
    return sys.modules['mmcv._ext']


def test_mmengine_finds_no_compiled_operators_in_the_stand_in(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmcv._ext', StandIn('mmcv._ext'))
    assert not mmcv_full_available()


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
def test_nms_equals_the_compiled_one(compiled, offset: int, threshold: float) -> None:
    for boxes, scores in crowds():
        named = {'iou_threshold': threshold, 'offset': offset}
        expected = compiled.nms(boxes, scores, **named)
        assert torch.equal(StandIn.nms(boxes, scores, **named), expected)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('min_score', [0.0, 1e-3, 0.2])
@pytest.mark.parametrize('method', [0, 1, 2], ids=['hard', 'linear', 'gaussian'])
def test_softnms_equals_the_compiled_one(
    compiled, method: int, min_score: float, offset: int
) -> None:
    for boxes, scores in crowds():
        named = {'iou_threshold': 0.4, 'sigma': 0.5, 'min_score': min_score}
        named |= {'method': method, 'offset': offset}
        given = boxes.clone(), scores.clone()
        wanted, dets = torch.zeros(2, len(scores), 5)
        expected = compiled.softnms(boxes, scores, wanted, **named)
        kept = StandIn.softnms(boxes, scores, dets, **named)
        assert torch.equal(kept, expected)
        # float32; the compiled loop multiplies in another order
        torch.testing.assert_close(dets[: len(kept)], wanted[: len(kept)], rtol=1e-5, atol=1e-6)
        assert torch.equal(boxes, given[0])
        assert torch.equal(scores, given[1])


def test_mmdet_imports_and_computes_nms_without_the_extension() -> None:
    code = """
import torch
from mmcv.ops import batched_nms, soft_nms
from mmdet_losses import compat
from tests.processes import ROOT, run_command
assert not compat.has_mmcv_ops()
boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0], [0.0, 0.0, 9.0, 8.0]])
scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1])
print(batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5))[1].tolist())
print(soft_nms(boxes, scores, method='naive', iou_threshold=0.5)[1].tolist())
"""
    assert run_hidden(code) == ['[0, 2]', '[0]']


def test_a_detector_without_deformable_convolution_builds_and_predicts() -> None:
    code = """
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import get_installed_path
from mmdet.registry import MODELS
init_default_scope('mmdet')
config = Config.fromfile(
    get_installed_path('mmdet') + '/.mim/configs/centernet/centernet_r18_8xb16-crop512-140e_coco.py'
)
config.model.backbone.init_cfg = None
model = MODELS.build(config.model).eval()
with torch.no_grad():
    maps = model.bbox_head(model.extract_feat(torch.zeros(1, 3, 64, 64)))
print([len(level) for level in maps], maps[0][0].shape[1])
"""
    assert run_hidden(code) == ['[1, 1, 1] 80']


def test_deformable_convolution_raises_an_error_with_the_install_command() -> None:
    code = """
import torch
from mmcv.ops import DeformConv2d
try:
    DeformConv2d(2, 2, 3, padding=1)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 4, 4))
except RuntimeError as error:
    print(error)
"""
    (message,) = run_hidden(code)
    assert message.startswith('MMCV was installed without its compiled operators, so `deform_conv')
    assert '`make env OPS=1`' in message


def test_mmdetections_ssd_head_predicts():
    from mmdet.models.dense_heads import SSDHead
    from mmengine.config import ConfigDict

    anchors = dict(
        type='SSDAnchorGenerator', scale_major=False, input_size=32, strides=[8], ratios=[[2]],
        min_sizes=[8], max_sizes=[16],
    )  # fmt: skip
    head = SSDHead(
        3, (4,), anchor_generator=anchors, test_cfg=ConfigDict(nms_pre=10, score_thr=0.0)
    )
    head.test_cfg.update(nms=dict(type='nms', iou_threshold=0.5), max_per_img=5, min_bbox_size=0)
    metas = [dict(img_shape=(32, 32), scale_factor=(1.0, 1.0))]
    with torch.no_grad():
        outputs = head((torch.zeros(1, 4, 4, 4),))
        (found,) = head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=True)
    assert len(found) == 5


@pytest.mark.parametrize('first', [True, False])
def test_only_the_main_process_writes_the_metrics(tmp_path, monkeypatch, first):
    from mmengine.hooks import LoggerHook

    monkeypatch.setattr('mmengine.dist.utils.is_main_process', lambda group=None: first)
    runner = MagicMock(log_dir=str(tmp_path), timestamp='now')
    runner.log_processor.get_log_after_epoch.return_value = ({'bbox_mAP': 0.5}, 'mAP: 0.5')
    hook = LoggerHook()
    hook.before_run(runner)
    hook.after_test_epoch(runner)
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert written == ({'now.json': {'bbox_mAP': 0.5}} if first else {})


def test_importing_the_package_loads_neither_matplotlib_nor_the_compiler() -> None:
    code = """
import sys
import mmdet_losses
loaded = [name for name in ('matplotlib', 'seaborn', 'torch._dynamo') if name in sys.modules]
print('imported')
print(loaded)
from mmdet.utils import mot_error_visualize
axes = mot_error_visualize.plt.figure().gca()  # the deferred module is the real one now
axes.add_patch(mot_error_visualize.Rectangle((0, 0), 1, 1))
print(type(axes.patches[0]).__module__, mot_error_visualize.plt.rcParams['figure.dpi'] > 0)
"""
    assert run_fresh(code) == ['[]', 'matplotlib.patches True']


def test_a_checkpoint_loads_safely_after_mmengine_loaded_one(tmp_path) -> None:
    from mmengine.logging import HistoryBuffer
    from mmengine.runner.checkpoint import _load_checkpoint

    history = HistoryBuffer()
    history.update(3.0)
    torch.save(dict(state_dict={}, message_hub=dict(log=history)), tmp_path / 'epoch_1.pth')
    for _ in range(2):
        _load_checkpoint(str(tmp_path / 'epoch_1.pth'), map_location='cpu')
        state = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
        assert state['message_hub']['log'].current() == 3


def test_configs_of_a_package_are_found_fast() -> None:
    code = """
import sys
import mmdet_losses
print('imported')
from mmengine.config import Config, utils
bases = 'mmdet::_base_/default_runtime.py', 'mmdet_losses::_base_/default_runtime.py'
levels = [Config.fromstring(f'_base_ = {base!r}', '.py').log_level for base in bases]
first = utils.load.cache_info()
Config.fromstring(f'_base_ = {bases[0]!r}', '.py')
then = utils.load.cache_info()
print(levels, then.misses - first.misses, then.hits - first.hits > 90)
print('pkg_resources' in sys.modules)
"""
    assert run_fresh(code) == ["['INFO', 'INFO'] 0 True", 'False']


def test_a_missing_package_of_configs_is_named() -> None:
    from mmengine.config import Config

    with pytest.raises(ModuleNotFoundError, match='mmyolo is not installed'):
        Config.fromstring("_base_ = 'mmyolo::_base_/default_runtime.py'", '.py')


@pytest.mark.parametrize('patch', compat.PATCHES, ids=lambda patch: patch.__name__)
def test_every_patch_states_its_reason_and_versions(patch) -> None:
    assert 'Reason: ' in patch.__doc__ and 'Versions: ' in patch.__doc__
    assert f'| `{patch.__name__}` |' in (ROOT / 'docs/compat.md').read_text(encoding='utf-8')


def test_patches_apply_twice_without_a_change() -> None:
    from mmdet.models.dense_heads import SSDHead
    from mmengine.hooks import LoggerHook

    before = SSDHead.__init__, LoggerHook.after_test_epoch
    compat.apply_patches()
    assert (SSDHead.__init__, LoggerHook.after_test_epoch) == before
