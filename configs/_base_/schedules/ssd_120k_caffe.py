# The Caffe code's schedule of SSD for PASCAL VOC: as ssd.pytorch's, but biases have twice the rate
# and no decay, and the momentum contains the rate.
_base_ = './ssd_120k.py'

optim_wrapper = dict(
    optimizer=dict(type='CaffeSGD'),
    paramwise_cfg=dict(bias_lr_mult=2, bias_decay_mult=0),
)
