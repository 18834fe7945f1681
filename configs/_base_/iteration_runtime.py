# The runtime of schedules that count iterations.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=25_000, max_keep_ckpts=3))
log_processor = dict(by_epoch=False)
