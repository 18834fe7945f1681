# CenterNet (objects as points), DLA-34 whose up-sampling has plain convolutions: needs no compiled
# operator. No published figure for this variant.
_base_ = './centernet_points_dla34_8xb16-140e_coco.py'

model = dict(neck=dict(conv='conv'))
