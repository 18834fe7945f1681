"""Full recipes of the centre family have the published schedules and batch sizes."""

from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
POINTS, POSE, TRACK = 'centernet_points', 'centernet_pose', 'centertrack'
# folder, recipe -> epochs, epochs of a lower learning rate, learning rate, images per step
PUBLISHED = {
    (POINTS, 'resdcn18_8xb14-140e_coco'): (140, [90, 120], 5e-4, 112),  # of 114, over 4 GPUs
    (POINTS, 'resdcn101_8xb12-140e_coco'): (140, [90, 120], 3.75e-4, 96),
    (POINTS, 'dla34_8xb16-140e_coco'): (140, [90, 120], 5e-4, 128),
    (POINTS, 'dla34-plain_8xb16-140e_coco'): (140, [90, 120], 5e-4, 128),  # as with DCN
    (POINTS, 'dla34_8xb16-230e_coco'): (230, [180, 210], 5e-4, 128),
    (POINTS, 'dla34_8xb16-230e_coco_multiscale'): (230, [180, 210], 5e-4, 128),
    (POINTS, 'hg104_8xb3-50e_coco'): (50, [40], 2.5e-4, 24),
    (POINTS, 'resdcn18_4xb8-70e-384_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POINTS, 'resdcn18_4xb8-70e-512_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POINTS, 'resdcn101_4xb8-70e-384_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POINTS, 'resdcn101_4xb8-70e-512_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POINTS, 'dla34_4xb8-70e-384_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POINTS, 'dla34_4xb8-70e-512_voc0712'): (70, [45, 60], 1.25e-4, 32),
    (POSE, 'dla34_8xb16-140e_coco'): (140, [90, 120], 5e-4, 128),
    (POSE, 'dla34_8xb16-320e_coco'): (320, [270, 300], 5e-4, 128),
    (POSE, 'hg104_8xb3-50e_coco'): (50, [40], 2.5e-4, 24),
    (POSE, 'hg104_8xb3-150e_coco'): (150, [130], 2.5e-4, 24),
    (TRACK, 'dla34_2xb16-70e_mot17-half'): (70, [60], 1.25e-4, 32),
    (TRACK, 'dla34_2xb16-70e_mot17-half_scratch'): (70, [60], 1.25e-4, 32),
    (TRACK, 'dla34_2xb16-70e_mot17'): (70, [60], 1.25e-4, 32),
    (TRACK, 'dla34_2xb16-70e_mot17_scratch'): (70, [60], 1.25e-4, 32),
    (TRACK, 'dla34_2xb8-70e_kitti-half'): (70, [60], 1.25e-4, 16),
    (TRACK, 'dla34_2xb8-70e_kitti-half_scratch'): (70, [60], 1.25e-4, 16),
    (TRACK, 'dla34_2xb8-70e_kitti'): (70, [60], 1.25e-4, 16),
    (TRACK, 'dla34_8xb16-70e_coco'): (70, [60], 5e-4, 128),
    (TRACK, 'dla34_8xb16-70e_coco_pose'): (70, [60], 5e-4, 128),
    (TRACK, 'dla34_4xb16-140e_crowdhuman'): (140, [90, 120], 2.5e-4, 64),
}


def test_every_full_recipe_is_listed():
    full = {
        (folder, path.stem.removeprefix(f'{folder}_'))
        for folder in (POINTS, POSE, TRACK)
        for path in (CONFIGS / folder).glob('*_*xb*.py')
    }
    assert full == set(PUBLISHED)


@pytest.mark.parametrize(('folder', 'recipe'), PUBLISHED)
def test_the_schedule_equals_the_published_one(folder, recipe):
    epochs, milestones, rate, images = PUBLISHED[folder, recipe]
    cfg = Config.fromfile(CONFIGS / folder / f'{folder}_{recipe}.py')
    [steps] = cfg.param_scheduler  # no warm-up
    assert cfg.train_cfg.max_epochs == steps.end == epochs
    assert steps.milestones == milestones
    assert (steps.type, steps.by_epoch, steps.gamma) == ('MultiStepLR', True, 0.1)
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=rate)
    processes = int(recipe.split('_')[1].split('xb')[0])
    assert processes * cfg.train_dataloader.batch_size == images
    assert 'clip_grad' not in cfg.optim_wrapper
    checkpoint = cfg.default_hooks.checkpoint
    assert checkpoint.max_keep_ckpts == 3
    assert checkpoint.interval == cfg.train_cfg.val_interval
