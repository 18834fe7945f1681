"""Cases of other networks find their recipe, and the recipe takes the network of the case."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope

from mmdet_losses.registry import MODELS
from tools.parity import trajectories
from tools.parity.training import Recorder
from tools.parity.trajectory_case import TrajectoryCase
from tools.parity.trajectory_systems import SYSTEMS, system_of

SMALL = dict(n=2, dims=[8, 8, 16], modules=[1, 1, 1], cnv_dim=8)
CORNER = dict(SMALL, out_dim=3, pool_channels=8)
BOXES, TRACKS = dict(hm=3, wh=2, reg=2), dict(hm=3, reg=2, wh=2, tracking=2)
POSES = dict(hm=1, wh=2, hps=34, reg=2, hm_hp=17, hp_offset=2)
CFG = 'models/models.py Darknet(cfg/{}.cfg)'
YOLO = dict(depth_multiple=0.34, width_multiple=0.125, nc=3)
CASES = [
    ('cornernet', dict(CORNER, nstack=1), 'cornernet'),
    ('centernet_triplet', dict(CORNER, nstack=3), 'centernet_triplet'),
    ('ctdet_resdcn101', dict(arch='resdcn_101', heads=BOXES, head_conv=64), 'ctdet_resdcn'),
    ('ctdet_dla34', dict(arch='dla_34', heads=BOXES, head_conv=256), 'ctdet_dla'),
    ('ctdet', dict(SMALL, arch='hourglass', heads=BOXES, nstack=1), 'ctdet_hourglass'),
    ('multi_pose', dict(SMALL, arch='hourglass', heads=POSES, nstack=2), 'multi_pose_hourglass'),
    (
        'centertrack_sgd',
        dict(arch='dla_34', heads=dict(TRACKS, ltrb=4), dla_node='conv'),
        'centertrack',
    ),
    (
        'centertrack',
        dict(arch='dla_34', heads=dict(POSES, tracking=2), head_conv=dict(hm=[64])),
        'centertrack_pose',
    ),
    ('p5', dict(YOLO, official='models/yolo.py Model(models/yolov4-p5.yaml)'), 'p5'),
    ('p7', dict(YOLO, official='models/yolo.py Model(models/yolov4-p7.yaml)'), 'p7'),
    ('v4cfg', dict(official=CFG.format('yolov4-pacsp'), filters='divided by 8', nc=3), 'pacspcfg'),
]


@pytest.mark.parametrize(('system', 'network', 'expected'), CASES)
def test_the_recipe_takes_the_network_of_a_case(system, network, expected):
    meta = dict(system=system, network=network, weights=dict(ltrb=0.1))
    found = system_of(meta)
    assert found is SYSTEMS[expected]
    keys = {'tl_heats.0.0.conv.weight': [8, 8, 3, 3]}
    io = dict(anchors=torch.ones(int(expected[1]) - 2 if expected[1] in '57' else 3, 4, 2))
    cfg = trajectories.recipe(found)
    found.shrink(cfg, SimpleNamespace(meta=meta, keys=keys, io=io))
    trajectories._without_init(cfg.model)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    classes = network.get('nc') or network.get('out_dim') or network['heads']['hm']
    assert model.bbox_head.encoder.num_classes == classes
    assert sum(each.numel() for each in model.parameters()) < 6e7


def test_an_unknown_trainer_has_no_recipe():
    assert system_of(dict(system='exdet_hourglass', network={})) is None


def test_stored_steps_and_moments_come_from_the_case():
    case = SimpleNamespace(io={f'after{n}.norm': 0 for n in (8, 2)})
    assert TrajectoryCase.snapshots_of(case, '') == [2, 8]
    assert TrajectoryCase.snapshots_of(case, 'ema ') == []
    case.io['after8.ema_norm'] = 0
    assert TrajectoryCase.snapshots_of(case, 'ema ') == [8]
    for given in ('2,4', [2, 4]):
        assert trajectories._moments(dict(lr_step=given)) == [2, 4]
    assert trajectories._moments(dict(lr_steps=3)) == [3]
    assert trajectories._moments(dict(lr_step='')) == []


def test_a_training_of_more_iterations_than_the_case_ends():
    recorder = Recorder([], num_steps=1)
    loop = SimpleNamespace(stop_training=False)
    runner = SimpleNamespace(iter=0, train_loop=loop, hooks=[])
    recorder.after_train_iter(runner, 0, outputs=dict(loss=1.0))
    assert loop.stop_training
    runner.iter = 1
    recorder.before_train_iter(runner, 1)
    recorder.after_train_iter(runner, 1, outputs=dict(loss=2.0))
    assert recorder.losses == [dict(loss=1.0)]
    assert recorder.lr == []
