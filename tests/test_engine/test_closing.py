"""The last lines of a training."""

from mmdet_losses.engine import closing_lines


def test_the_closing_lines_have_result_checkpoint_and_next_command(tmp_path, monkeypatch):
    scalars = {'coco/bbox_mAP': 0.41, 'coco/bbox_mAP_50': 0.923, 'data_time': 1.0}
    assert closing_lines(scalars, str(tmp_path), 'mine.py') == ['AP 0.410, AP50 0.923']
    assert closing_lines({}, str(tmp_path), 'mine.py') == []
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    (tmp_path / 'epoch_2.pth').write_bytes(b'')
    path = f'{tmp_path}/epoch_2.pth'
    assert closing_lines(scalars, str(tmp_path), 'mine.py')[1:] == [
        f'checkpoint: {path}',
        f'next: python tools/predict.py mine.py {path} IMAGES --out predicted',
    ]
    monkeypatch.chdir(tmp_path)  # paths inside the current folder are relative
    assert closing_lines(scalars, str(tmp_path), 'my own.py')[1:] == [
        'checkpoint: epoch_2.pth',
        "next: python tools/predict.py 'my own.py' epoch_2.pth IMAGES --out predicted",
    ]
