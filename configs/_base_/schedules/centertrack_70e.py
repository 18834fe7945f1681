# CenterTrack's default options, those of its MOT17 and KITTI scripts: Adam, 70 epochs, learning
# rate / 10 at 60, no warm-up.
_base_ = './adam_70e.py'

param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=70, by_epoch=True, milestones=[60], gamma=0.1)
]
