# First layers of YOLOv2-tiny and YOLOv3-tiny, one row per section of the cfg.
tiny_trunk = [
    dict(type='convolutional', filters=16, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=32, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=64, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=128, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=256, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=2, padding=1),
    dict(type='convolutional', filters=512, size=3, batch_normalize=True, activation='leaky'),
    dict(type='maxpool', size=2, stride=1, padding=1),
    dict(type='convolutional', filters=1024, size=3, batch_normalize=True, activation='leaky'),
]
