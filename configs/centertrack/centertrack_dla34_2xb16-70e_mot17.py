# CenterTrack, DLA-34, trained on all training videos of MOT17 from CrowdHuman weights; the test
# writes the files for the MOT Challenge server.
# Target: MOTA 67.3 on the test videos, private detection, 544 x 960, no flip; source: the official
# model zoo, mot17_fulltrain.
_base_ = './centertrack_dla34_2xb16-70e_mot17-half.py'

train_dataloader = dict(dataset=dict(ann_file='annotations/train_cocoformat.json'))
# the training images, to check that the training works
val_dataloader = dict(dataset=dict(ann_file='annotations/train_cocoformat.json'))
test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/test_cocoformat.json', data_prefix=dict(img='test/'), ignored=None
    )
)
test_evaluator = dict(results_dir='work_dirs/mot17_results', format_only=True)
