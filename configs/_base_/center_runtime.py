# The runtime of the centre family: a checkpoint at every validation.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(interval=5))
