"""train.py and test.py in one process, and their usage errors."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import time
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmdet_losses import engine
from mmdet_losses.core.checkpoint import read_checkpoint
from mmdet_losses.engine import processes
from mmdet_losses.engine.explain import explain
from mmdet_losses.engine.tta import tta_pipeline


@pytest.fixture(scope='module')
def module(tools):
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, tools.root / 'tools' / f'{name}.py')
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    return load


@pytest.fixture
def usage_error(module, monkeypatch, capsys):
    """Function that runs train.py or test.py up to a usage error; returns the printed line."""

    def call(name: str, *arguments: object) -> str:
        tool = module(name)
        args = tool.parse_args([str(argument) for argument in arguments])
        with pytest.raises(SystemExit) as exit_info:
            engine.run_tool(tool.train if name == 'train' else tool.test, args)
        assert exit_info.value.code == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith('error: ')
        return lines[0]

    return call


@pytest.mark.short_training
def test_training_on_the_cpu_prints_a_message(trained):
    text = trained.text[trained.text.index('No GPU') :]  # the forks print on import
    first, *progress, log, checkpoint, command = text.rstrip().splitlines()
    assert first == 'No GPU found: running on the CPU with one process.'
    assert all(' of 12 steps, ' in line for line in progress), trained.text
    assert 'System environment' in Path(log.removeprefix('log: ')).read_text()
    assert checkpoint == f'checkpoint: {trained.work_dir / "epoch_3.pth"}'
    assert command.startswith('next: python predict.py ')  # the fixture runs in tools/
    assert sorted(path.name for path in trained.work_dir.glob('*.pth')) == [
        'epoch_1.pth',
        'epoch_2.pth',
        'epoch_3.pth',
    ]
    logs = [
        json.loads(line)
        for line in next(trained.work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    ]
    assert len(logs) == 12
    assert all(log['num_pos'] > 0 for log in logs)
    terms = {key for key in logs[0] if key.startswith('loss_')}
    assert terms == {'loss_heatmap', 'loss_size', 'loss_offset'}
    for log in logs:  # the log has means, which keep sums
        assert log['loss'] == pytest.approx(sum(log[term] for term in terms), rel=1e-4)


def test_weights_load_safely(trained, tools):
    state = tools.weights(trained.work_dir / 'epoch_3.pth')
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_safe_loading_reads_statistics_only(tmp_path):
    from mmengine.logging import HistoryBuffer

    class Escape:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save(Escape(), tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match='reads `__init__`'):
        torch.load(tmp_path / 'bad.pth', weights_only=True)


def test_testing_writes_predictions_images_and_the_ap_of_every_class(trained, tools, tmp_path):
    out = tmp_path / 'predictions.pkl'
    arguments = [tools.config, trained.work_dir / 'epoch_3.pth', '--work-dir', tmp_path]
    arguments += ['--metric', 'VOC', '--iou', 0.5, 0.75]
    result = tools.run('test.py', *arguments, '--out', out, '--show-dir', 'drawn')
    assert result.status == 0, result.text[-3000:]
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 8
    assert all((p['pred_instances']['bboxes'][:, 2:] <= 200).all() for p in predictions)
    assert len(list(tmp_path.glob('*/drawn/*'))) == 8
    for text in (
        '| class',
        '| one',
        '| two',
        'voc/mAP',
        'voc/AP50',
        'voc/AP75',
        'images: ',
        'log: ',
    ):
        assert text in result.text


def test_a_work_dir_with_checkpoints_raises(trained, tools, usage_error):
    before = (trained.work_dir / 'epoch_3.pth').read_bytes()
    line = usage_error('train', tools.config, '--work-dir', trained.work_dir)
    for word in (str(trained.work_dir), '3 checkpoint(s)', '--resume', '--restart', '--work-dir'):
        assert word in line
    assert (trained.work_dir / 'epoch_3.pth').read_bytes() == before


def test_restart_moves_checkpoints_aside(tmp_path):
    for name in ('epoch_1.pth', 'best_coco_bbox_mAP_epoch_1.pth', 'last_checkpoint'):
        (tmp_path / name).write_text(name)
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    engine.settle_start(cfg, resume=None, restart=True)
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith('earlier_')
    assert sorted(path.name for path in aside.iterdir()) == [
        'best_coco_bbox_mAP_epoch_1.pth',
        'epoch_1.pth',
        'last_checkpoint',
    ]
    assert all(path.read_text() == path.name for path in aside.iterdir())


def test_resume_without_a_checkpoint_keeps_the_pretrained_weights(tmp_path, capsys):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    engine.settle_start(cfg, resume='auto', restart=False)
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')
    assert 'Nothing to resume' in capsys.readouterr().out


def save_checkpoint(path, age=0):
    """A small checkpoint of a training, ``age`` seconds old."""
    meta, state = dict(epoch=1, iter=1), {'weight': torch.arange(1000.0)}
    torch.save(dict(meta=meta, state_dict=state, optimizer={}), path)
    now = time.time() - age
    os.utime(path, (now, now))


def start(work_dir, resume='auto'):
    cfg = Config(dict(work_dir=str(work_dir)))
    engine.settle_start(cfg, resume=resume, restart=False)
    return Path(cfg.load_from).name if cfg.resume else None


def test_resume_follows_a_moved_work_dir(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    with pytest.raises(engine.UsageError, match=r'/elsewhere/epoch_2\.pth, which does not exist'):
        start(tmp_path)
    save_checkpoint(tmp_path / 'epoch_2.pth', age=9)
    save_checkpoint(tmp_path / 'epoch_3.pth')  # written before last_checkpoint was
    assert start(tmp_path) == 'epoch_2.pth'


@pytest.mark.parametrize('record', [None, b'', b'\xff\xfe\x00', b'/elsewhere/epoch_9.pth'])
def test_resume_without_a_record_takes_the_newest_checkpoint(tmp_path, record):
    for number, age in ((1, 30), (10, 10), (9, 20)):
        save_checkpoint(tmp_path / f'epoch_{number}.pth', age)
    save_checkpoint(tmp_path / 'best_mAP_epoch_10.pth')
    if record is not None:
        (tmp_path / 'last_checkpoint').write_bytes(record)
    assert start(tmp_path) == ('epoch_9.pth' if record and b'_9' in record else 'epoch_10.pth')


def flip_a_weight(path):
    content = bytearray(path.read_bytes())
    at = content.find(torch.arange(500.0, 501.0).numpy().tobytes())
    content[at + 3] ^= 1
    path.write_bytes(content)


def safetensors(path):
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4))


def flip_the_table_of_contents(path):
    content = bytearray(path.read_bytes())
    content[-40] ^= 255
    path.write_bytes(content)


def change(path, **parts):
    torch.save({**torch.load(path, weights_only=True), **parts}, path)


NAN = dict(weight=torch.tensor([1.0, float('nan')]))
DAMAGES = {
    'NaN weights': lambda path: change(path, state_dict=NAN),
    'NaN weights before the average': lambda path: change(path, ema_state_dict=NAN),
    'an infinite momentum': lambda path: change(
        path, optimizer=dict(state={0: dict(momentum_buffer=torch.full((3,), torch.inf))})
    ),
    'truncated in the weights': lambda path: path.write_bytes(path.read_bytes()[:2500]),
    'zeros': lambda path: path.write_bytes(bytes(5000)),
    'flipped byte in the table of contents': flip_the_table_of_contents,
    'legacy format, truncated': lambda path: (
        torch.save(torch.zeros(999), path, _use_new_zipfile_serialization=False),
        path.write_bytes(path.read_bytes()[:900]),
    ),
    'safetensors': safetensors,
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:-300]),
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('not a checkpoint'),
    'flipped byte in the weights': flip_a_weight,
    'only weights': lambda path: torch.save({'state_dict': {}}, path),
    'a tensor': lambda path: torch.save(torch.zeros(3), path),
    'a meta of another type': lambda path: torch.save(
        dict(meta=3, state_dict=dict(weight=torch.ones(1)), optimizer={}), path
    ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_is_skipped_or_named(tmp_path, capsys, damage):
    save_checkpoint(tmp_path / 'epoch_1.pth', age=60)
    newest = tmp_path / 'epoch_2.pth'
    save_checkpoint(newest)
    (tmp_path / 'last_checkpoint').write_text(str(newest))
    DAMAGES[damage](newest)
    assert start(tmp_path) == 'epoch_1.pth'
    assert f'{newest} is skipped: it ' in capsys.readouterr().out
    loads = 'only weights', 'a tensor', 'a meta of another type', 'an infinite momentum'
    if not damage.startswith((*loads, 'NaN')):
        with pytest.raises(ValueError, match=r'epoch_2\.pth does not load as plain tensors'):
            read_checkpoint(newest)
        kinds = RuntimeError, UnpicklingError
        with pytest.raises(kinds, match=r'epoch_2\.pth is damaged') as end:
            load_checkpoint(torch.nn.Linear(1, 1), str(newest))  # of MMEngine
        assert explain(end.value) == str(end.value)
    with pytest.raises(engine.UsageError, match=r'cannot continue from .*epoch_2\.pth: it '):
        start(tmp_path, resume=str(newest))
    (tmp_path / 'epoch_1.pth').unlink()
    with pytest.raises(engine.UsageError, match=r'none of the 1 checkpoint.* --restart'):
        start(tmp_path)


def test_a_further_file_in_the_archive_is_no_damage(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(path)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('epoch_1/notes.txt', 'text')
    assert start(tmp_path) == 'epoch_1.pth'
    assert list(read_checkpoint(path)) == ['weight']
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('other/notes.txt', 'text')  # PyTorch does not read such an archive
    with pytest.raises(ValueError, match='does not load as plain tensors'):
        read_checkpoint(path)


def test_a_folder_or_a_pipe_is_no_checkpoint(tmp_path):
    (tmp_path / 'epoch_3.pth').mkdir()
    os.mkfifo(tmp_path / 'epoch_4.pth')
    with pytest.raises(FileNotFoundError, match=r'epoch_3\.pth is a folder'):
        read_checkpoint(tmp_path / 'epoch_3.pth')
    with pytest.raises(engine.UsageError, match='can be resumed; start again with --restart'):
        start(tmp_path)


def test_partial_files_of_a_killed_training_are_removed(tmp_path):
    save_checkpoint(tmp_path / 'epoch_1.pth')
    for name in ('epoch_2.pth.77.partial', 'last_checkpoint.77.partial'):
        (tmp_path / name).write_bytes(b'PK')
    assert start(tmp_path) == 'epoch_1.pth'
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']


def test_usage_errors_print_one_message(tools, usage_error, tmp_path):
    work = ('--work-dir', tmp_path)
    assert 'absent.py not found' in usage_error('train', 'absent.py')
    assert 'absent.pth not found' in usage_error(
        'train', tools.config, *work, '--resume', 'absent.pth'
    )
    assert 'absent.pth not found' in usage_error('test', tools.config, 'absent.pth', *work)
    without = ('--cfg-options', 'auto_scale_lr=None')
    assert 'base_batch_size' in usage_error(
        'train', tools.config, *work, '--auto-scale-lr', *without
    )
    assert '--launcher pytorch needs RANK' in usage_error(
        'train', tools.config, *work, '--launcher', 'pytorch'
    )
    if not torch.cuda.is_available():
        assert '--amp needs a GPU' in usage_error('train', tools.config, *work, '--amp')


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('LOCAL_RANK', '2')
    processes._check_gpu_count('pytorch', gpus=3)
    with pytest.raises(engine.UsageError, match=r'has 2 GPU.*GPUS=2'):
        processes._check_gpu_count('pytorch', gpus=2)


def test_unknown_errors_have_a_traceback(tools):
    args = SimpleNamespace(
        config=str(tools.config),
        work_dir=None,
        cfg_options=None,
        launcher='none',
        local_rank=0,
        debug=False,
        verbose=False,
    )

    def fail(cfg, args):
        raise ZeroDivisionError('a defect')

    with pytest.raises(ZeroDivisionError, match='a defect'):
        engine.run_tool(fail, args)


def test_default_hooks_are_added_once():
    own = dict(type='NumPositivesHook', patience=3)
    cfg = Config(dict(custom_hooks=[own]))
    engine.add_default_hooks(cfg)
    engine.add_default_hooks(cfg)
    names = ('CheckDataHook', 'ClassLayersHook', 'EpochSeedHook')
    added = [dict(type=f'mmdet_losses.{name}') for name in names]
    assert cfg.custom_hooks == [own, *added]


def test_tta_includes_the_results_of_plain_testing(trained, tools, tmp_path):
    """The boxes of all scales and flips are merged, also without `border` in the metas."""
    arguments = ['test.py', tools.config, trained.work_dir / 'epoch_3.pth', '--work-dir', tmp_path]
    found = []
    for name, options in (('plain.pkl', []), ('tta.pkl', ['--tta'])):
        result = tools.run(*arguments, '--out', tmp_path / name, *options)
        assert result.status == 0, result.text[-3000:]
        predictions = pickle.loads((tmp_path / name).read_bytes())
        found.append([item['pred_instances'] for item in predictions])
    assert len(found[0]) == len(found[1]) == 8
    assert any(len(item['bboxes']) for item in found[1])
    for plain, augmented in zip(*found, strict=True):
        assert len(augmented['bboxes']) <= 20
        assert augmented['scores'].max() >= plain['scores'].max()  # plain is one of the views


def test_tta_pipeline_flips_before_padding():
    size = dict(type='Pad', size=(64, 96))
    pack = dict(type='PackDetInputs', meta_keys=('img_id',))
    load, annotations = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    resize = dict(type='mmdet.Resize', scale=(96, 64), keep_ratio=True)
    first, augment = tta_pipeline([load, resize, size, annotations, pack])
    assert first == load
    scales, flips, pads, *rest = augment['transforms']
    assert [scale['scale'] for scale in scales] == [(72, 48), (96, 64), (120, 80)]
    assert [flip['prob'] for flip in flips] == [0.0, 1.0]
    assert pads == [dict(type='Pad', size=(80, 120))]
    assert rest[0] == [annotations]
    assert set(rest[1][0]['meta_keys']) == {'img_id', 'scale_factor', 'flip', 'flip_direction'}
    assert pack['meta_keys'] == ('img_id',)  # the pipeline of the config is not changed

    first, augment = tta_pipeline([load, size, pack])
    assert first == load
    assert [step[0]['type'] for step in augment['transforms']] == [
        'RandomFlip',
        'Pad',
        'PackDetInputs',
    ]
    assert augment['transforms'][1] == [size]
