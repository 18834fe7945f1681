"""Video data set whose objects have identities."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmdet.datasets import BaseVideoDataset
from mmengine.fileio import get_text, join_path

from mmdet_losses.data.clean import DataError
from mmdet_losses.data.object_weights import weight_of
from mmdet_losses.data.words import plural
from mmdet_losses.registry import DATASETS

IDENTITY_KEYS = ('instance_id', 'track_id')


@DATASETS.register_module()
class IdentityVideoDataset(BaseVideoDataset):
    """MMDetection's ``BaseVideoDataset`` with checked identities.

    ``BaseVideoDataset`` makes up a number where an identity is missing or 0, so that a tracker
    learns from wrong identities, and it expects images in the order of their ids. This data set
    reads the same files (COCO with ``videos``, and ``video_id`` and ``frame_id`` in every image;
    identities are ``instance_id``, as MMDetection's converters write them, or ``track_id``). It
    orders frames by ``frame_id`` and keeps frames without objects. Use ``TrackImgSampler``.

    In a file without ``video_id`` every image becomes a video of one frame, and its objects need
    no identity.

    Items are dicts of a video: ``video_id``, ``video_length`` and ``images``. An image has
    ``img_path``, ``img_id``, ``frame_id``, ``height``, ``width`` and ``instances`` (``bbox`` xyxy
    in pixels, ``bbox_label``, ``instance_id`` (-1 unknown), ``ignore_flag``). The label of an
    ignored region is -1 for all classes and -2 - c for class c. If the metainfo has ``keypoints``
    and ``flip_pairs`` (see :class:`~mmdet_losses.data.coco_keypoints.CocoKeypointDataset`), every
    instance has ``keypoints`` (J, 3), zeros where the annotation has none.

    Args:
        *args, **kwargs: of ``BaseVideoDataset``; ``filter_cfg`` is not used.
        visibility_thr: annotations with a lower ``visibility`` are not used in training.
            Annotations with ``mot_conf`` 0 are never used, as in MOT Challenge.
        ignored: category name -> the class whose regions it marks, or None for all classes.
            These regions are neither positives nor negatives in training, and detections in them
            are not errors in a test.

    Raises:
        DataError: classes that the file does not have; images without size, or without an integer
            ``frame_id`` in a video; two images with the same ``frame_id`` in a video; annotations
            without ``bbox``; objects of a video without identity (an integer >= 0), or two objects
            of a frame with the same identity. Ignored objects need no identity.
    """

    def __init__(
        self,
        *args: Any,
        visibility_thr: float = -1,
        ignored: Mapping[str, str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.visibility_thr, self.ignored = visibility_thr, dict(ignored or {})
        self.remarks: list[str] = []
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict per video; see the class."""
        content = json.loads(get_text(self.ann_file, backend_args=self.backend_args))
        self.labels = self._labels(content['categories'])
        self.cat_ids = list(self.labels)
        notes = defaultdict(list)
        for note in content.get('annotations', []):
            notes[note['image_id']].append(note)
        videos: dict[Any, list[dict]] = defaultdict(list)
        for image in content['images']:
            video = image.get('video_id', f'image {image["id"]}')
            videos[video].append(self._frame(image, notes[image['id']]))
        data = [self._video(video, frames) for video, frames in videos.items()]
        numbered = any('video_id' in image for image in content['images'])
        self.remarks = describe_videos(data, self.ann_file) if numbered else []
        return data

    def filter_data(self) -> list[dict]:
        """All frames, because a frame without objects can be a previous frame."""
        return self.data_list

    def _labels(self, categories: list[dict]) -> dict[int, int]:
        """Category id -> label, negative for the ignored ones."""
        classes = list(self.metainfo['classes'])
        listed = {category['name']: category['id'] for category in categories}
        missing = [name for name in (*classes, *self.ignored) if name not in listed]
        if missing:
            raise DataError(
                f'{self.ann_file} has the classes {", ".join(listed)}, but not '
                f'{", ".join(missing)}; set metainfo=dict(classes=(...)) and ignored of the data '
                'set to names in the file.'
            )
        labels = {listed[name]: label for label, name in enumerate(classes)}
        for name, owner in self.ignored.items():
            labels[listed[name]] = -1 if owner is None else -2 - classes.index(owner)
        return labels

    def _frame(self, image: dict, notes: list[dict]) -> dict:
        in_video = 'video_id' in image
        needed = ('height', 'width', *(('frame_id',) if in_video else ()))
        absent = [key for key in needed if key not in image]
        if absent:
            raise DataError(
                f'{image["file_name"]} in {self.ann_file} has no {" and no ".join(absent)}; give '
                'every image height and width in pixels, and every image of a video a frame_id.'
            )
        number = image['frame_id'] if in_video else 0
        if not _whole(number):
            raise DataError(
                f'{image["file_name"]} in {self.ann_file} has the frame_id {number!r} in video '
                f'{image["video_id"]}; number the frames of a video with integers.'
            )
        prefix = self.data_prefix.get('img_path') or self.data_prefix.get('img') or ''
        found = (self._instance(note, image, in_video, i) for i, note in enumerate(notes))
        instances = [each for each in found if each is not None]
        self._check_identities(instances, image)
        pose = {}
        if 'keypoints' in self.metainfo:
            pose = dict(num_keypoints=self._count(), flip_pairs=self.metainfo['flip_pairs'])
        return {
            **image,
            **pose,
            'frame_id': int(number),
            'img_id': image['id'],
            'img_path': join_path(prefix, image['file_name']) if prefix else image['file_name'],
            'instances': instances,
        }

    def _instance(self, note: dict, image: dict, in_video: bool, place: int) -> dict | None:
        """The instance of an annotation; None for annotations that are never used."""
        place_of = f'annotation {note.get("id")} of {image["file_name"]} in {self.ann_file}'
        if len(note.get('bbox') or ()) != 4:
            raise DataError(
                f'{place_of} has the bbox {note.get("bbox")}; give x, y, width, height in pixels.'
            )
        x, y, w, h = note['bbox']
        visible = self.test_mode or note.get('visibility', 1) >= self.visibility_thr
        listed = note['category_id'] in self.labels
        shown = min(x + w, image['width']) > max(x, 0) and min(y + h, image['height']) > max(y, 0)
        if not (listed and visible and shown and w >= 1 and h >= 1):
            return None
        label = self.labels[note['category_id']]
        ignored = bool(label < 0 or note.get('iscrowd') or note.get('ignore'))
        if not ignored and not note.get('mot_conf', 1):
            return None
        given = [note[key] for key in IDENTITY_KEYS if note.get(key) is not None]
        known = [each for each in given if _whole(each) and each >= 0] if in_video else [place]
        if not known and not ignored:
            identity = f'the instance_id {given[0]!r}' if given else 'no instance_id'
            raise DataError(
                f'{place_of} has {identity}; give every object of a video one integer >= 0 in all '
                'its frames (for single images, remove video_id from the images).'
            )
        instance = {
            'bbox': [x, y, x + w, y + h],
            'bbox_label': label,
            'ignore_flag': int(ignored),
            'instance_id': int(known[0]) if known else -1,
            **weight_of(note, self.ann_file),
        }
        if wanted := 3 * self._count():
            points = note.get('keypoints') or [0] * wanted
            if len(points) != wanted:
                raise DataError(
                    f'{place_of} has {len(points)} numbers as keypoints instead of {wanted}; '
                    'correct it, or the keypoints in metainfo of the data set.'
                )
            instance['keypoints'] = np.array(points, float).reshape(-1, 3).tolist()
        return instance

    def _count(self) -> int:
        """Number of keypoints per object."""
        return len(self.metainfo.get('keypoints', ()))

    def _check_identities(self, instances: list[dict], image: dict) -> None:
        ids = [each['instance_id'] for each in instances if not each['ignore_flag']]
        twice = [identity for identity, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(
                f'{ids.count(twice[0])} objects of {image["file_name"]} in {self.ann_file} have '
                f'the instance_id {twice[0]}; give each object of a frame its own number.'
            )

    def _video(self, video: Any, frames: list[dict]) -> dict:
        frames.sort(key=lambda frame: frame['frame_id'])
        for one, two in itertools.pairwise(frames):
            if one['frame_id'] == two['frame_id']:
                raise DataError(
                    f'{one["file_name"]} and {two["file_name"]} in {self.ann_file} have the same '
                    f'frame_id {one["frame_id"]} in video {video}; give each frame of a video its '
                    'own frame_id.'
                )
        return {'video_id': video, 'video_length': len(frames), 'images': frames}


def _whole(value: Any) -> bool:
    """Whether a value of a JSON file is an integer."""
    return isinstance(value, (int, float)) and float(value).is_integer()


def describe_videos(videos: list[dict], name: str) -> list[str]:
    """Messages about the videos of an annotation file: single frames and missing frames."""
    messages = []
    single = [each for each in videos if each['video_length'] == 1]
    if single:
        messages.append(
            f'{name}: {len(single)} of {len(videos)} videos have one frame '
            f'(the first is {single[0]["video_id"]}); it is its own previous frame.'
        )
    gaps = {}
    for each in videos:
        ids = [frame['frame_id'] for frame in each['images']]
        missing = ids[-1] - ids[0] + 1 - len(ids)
        if missing:
            gaps[each['video_id']] = missing
    if gaps:
        first = next(iter(gaps))
        messages.append(
            f'{name}: {plural(sum(gaps.values()), "frame is", "frames are")} missing from '
            f'{len(gaps)} of {len(videos)} '
            f'videos ({gaps[first]} from video {first}); pairs are chosen by frame_id.'
        )
    return messages
