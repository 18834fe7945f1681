# CenterTrack, DLA-34, trained on the first halves of MOT17 from CrowdHuman weights.
# Target: MOTA 66.1 on the second halves (noise about 1), private detection, 544 x 960, no flip;
# source: the official model zoo, mot17_half.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/mot17_half.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

load_from = 'work_dirs/centertrack_dla34_4xb16-140e_crowdhuman/epoch_140.pth'

auto_scale_lr = dict(enable=False, base_batch_size=32)
