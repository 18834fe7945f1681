# CenterNet (objects as points), DLA-34 with plain convolutions in its up-sampling, without compiled
# operators. This variant has no published AP.
_base_ = './centernet_points_dla34_8xb16-140e_coco.py'

model = dict(neck=dict(conv='conv'))
