"""Public detections of MOT Challenge: rows of a frame, and a missing file."""

import numpy as np
import pytest

from mmdet_losses.data import DataError, LoadPublicDetections

ROWS = """1,-1,10.5,20,30,40,-0.25,-1,-1,-1
3,-1,1,2,3,4,0.5,-1,-1,-1
1,-1,5,6,7,8,2.5,-1,-1,-1
"""


def test_a_frame_has_its_rows_in_the_order_of_the_file(tmp_path):
    (tmp_path / 'det').mkdir()
    (tmp_path / 'det' / 'det.txt').write_text(ROWS)
    frames = {number: str(tmp_path / 'img1' / f'{number:06}.jpg') for number in (1, 2, 3)}
    found = {
        number: LoadPublicDetections(score=None)({'img_path': path})['public_detections']
        for number, path in frames.items()
    }
    assert found[1].tolist() == [[10.5, 20, 40.5, 60, -0.25], [5, 6, 12, 14, 2.5]]
    assert found[2].shape == (0, 5)
    assert found[3].tolist() == [[1, 2, 4, 6, 0.5]]
    ones = LoadPublicDetections()({'img_path': frames[1]})['public_detections']
    assert ones[:, 4].tolist() == [1, 1] and ones.dtype == np.float32


def test_a_video_without_the_file_raises(tmp_path):
    with pytest.raises(DataError, match=r'det\.txt does not exist'):
        LoadPublicDetections()({'img_path': str(tmp_path / 'img1' / '000001.jpg')})
