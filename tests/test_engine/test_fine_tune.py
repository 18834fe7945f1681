"""A training that starts from a checkpoint of other classes."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmdet_losses.engine import ClassLayersHook, UsageError, skip_replaced_weights

ROOT = Path(__file__).resolve().parents[2]


def detector(classes):
    head = nn.ModuleDict(dict(box=nn.Conv2d(4, 4, 1), classes=nn.Conv2d(4, classes, 1)))
    return nn.ModuleDict(dict(backbone=nn.Conv2d(3, 4, 1), bbox_head=head))


def load(resume):
    """The messages, and a detector of three classes after the checkpoint of 80 classes."""
    messages = []
    logger = logging.getLogger('fine_tune')
    logger.info = messages.append
    model = detector(3)
    checkpoint = dict(state_dict=detector(80).state_dict())
    runner = SimpleNamespace(model=model, _resume=resume, logger=logger)
    ClassLayersHook().after_load_checkpoint(runner, checkpoint)
    return messages, model, checkpoint['state_dict']


def test_class_layers_keep_their_values_and_one_message_lists_them():
    messages, model, state = load(resume=False)
    before = model.bbox_head.classes.weight.clone()
    missing, unexpected = model.load_state_dict(state, strict=True)
    assert (missing, unexpected) == ([], [])
    assert torch.equal(model.bbox_head.classes.weight, before)
    assert messages == [
        'load_from has another number of classes: 1 class layers keep their initial values '
        '(bbox_head.classes); all other layers are loaded.'
    ]


def test_a_resumed_training_and_a_different_backbone_are_still_errors():
    messages, model, state = load(resume=True)
    assert messages == []
    with pytest.raises(RuntimeError, match='size mismatch for bbox_head'):
        model.load_state_dict(state)
    _, model, state = load(resume=False)
    state['backbone.weight'] = torch.zeros(4, 1, 1, 1)
    with pytest.raises(RuntimeError, match='size mismatch for backbone'):
        model.load_state_dict(state)


def test_a_checkpoint_without_a_layer_of_the_model_is_an_error():
    runner = SimpleNamespace(model=detector(3), _resume=False, _load_from='other.pth')
    with pytest.raises(UsageError, match=r'load_from=other\.pth has no layer of this model'):
        ClassLayersHook().after_load_checkpoint(runner, dict(state_dict=dict(a=torch.ones(1))))


@pytest.mark.parametrize(
    ('saved', 'skipped'),
    [
        ([torch.ones(1)], False),
        (dict(state_dict={'backbone.weight': torch.ones(1)}), True),
        (dict(state_dict={'bbox_head.weight': torch.ones(1)}), False),
        (None, False),
    ],
)
def test_pretrained_weights_are_skipped_if_load_from_has_the_backbone(saved, skipped, tmp_path):
    path = tmp_path / 'coco.pth'
    if saved is not None:
        torch.save(saved, path)
    init = dict(type='Pretrained', checkpoint='https://example.com/backbone.pth')
    cfg = Config(dict(model=dict(backbone=dict(init_cfg=init)), load_from=str(path)))
    skip_replaced_weights(cfg)
    assert (cfg.model.backbone.init_cfg is None) == skipped


def test_the_config_of_the_page_loads_with_the_users_classes(tmp_path):
    (block,) = re.findall(
        r'```python\n(.*?)```', (ROOT / 'docs' / 'finetune.md').read_text(), re.DOTALL
    )
    path = tmp_path / 'mine.py'
    path.write_text(block.replace("_base_ = '", f"_base_ = '{ROOT}/"))
    cfg = Config.fromfile(path)
    head = cfg.model.bbox_head
    assert head.predictor.num_classes == head.encoder.num_classes == 2
    for dataset in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
        assert dataset.type == 'CocoDataset'
        assert (dataset.data_root, dataset.metainfo.classes) == ('data/mine/', ('cat', 'dog'))
    assert [each.type for each in cfg.param_scheduler] == ['LinearLR', 'MultiStepLR']
    assert cfg.default_hooks.checkpoint.interval == 500
