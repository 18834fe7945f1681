"""The index that mim reads lists every config, and every listed file exists."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MIM = ROOT / 'mmdet_losses' / '.mim'


def metafiles():
    """Path -> content of every file in the index, read from the folder that mim uses."""
    index = yaml.safe_load((MIM / 'model-index.yml').read_text())
    return {name: yaml.safe_load((MIM / name).read_text()) for name in index['Import']}


def test_every_config_is_listed_once_and_every_listed_file_exists():
    listed = [model['Config'] for content in metafiles().values() for model in content['Models']]
    paths = [path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_']
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in paths), (
        'every config needs one entry in the metafile.yml of its folder (CONTRIBUTING.md, step 5)'
    )
    assert all((MIM / config).is_file() for config in listed)


def test_models_belong_to_a_collection_of_their_folder_and_are_named_like_their_file():
    for name, content in metafiles().items():
        collections = {each['Name'] for each in content['Collections']}
        for model in content['Models']:
            assert model['In Collection'] in collections
            assert model['Name'] == Path(model['Config']).stem
            assert Path(model['Config']).parent == Path(name).parent
        assert all((ROOT / each['README']).is_file() for each in content['Collections'])


def test_mim_finds_a_config_by_its_file_name_alone():
    names = [path.name for path in (MIM / 'configs').glob('**/*.py')]
    for content in metafiles().values():
        for model in content['Models']:
            assert names.count(Path(model['Config']).name) == 1


def test_the_index_at_the_root_and_the_tools_are_the_same_files():
    assert (ROOT / 'model-index.yml').samefile(MIM / 'model-index.yml')
    for tool in ('train.py', 'test.py'):
        assert (MIM / 'tools' / tool).samefile(ROOT / 'tools' / tool)
