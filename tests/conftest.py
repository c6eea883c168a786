"Shared by all tests: where the project is, and which tests need the real data."
import os
from pathlib import Path
import pytest

os.environ.setdefault('MPLBACKEND', 'agg')

def raw_folder():
    "The folder of the real data, or None."
    folder = os.environ.get('FETAL_SEG_DATA')
    return Path(folder) if folder and Path(folder).is_dir() else None

@pytest.fixture(scope='session')
def top(): return Path(__file__).resolve().parent.parent

@pytest.fixture(scope='session')
def raw():
    "The raw folder that FETAL_SEG_DATA names."
    return raw_folder() or pytest.skip('FETAL_SEG_DATA names no folder')

def pytest_collection_modifyitems(items):
    "Tests flagged `data` are skipped, by name, where there are no data."
    if raw_folder(): return
    skip = pytest.mark.skip(reason='needs the real data: FETAL_SEG_DATA names no folder')
    for item in items:
        if 'data' in item.keywords: item.add_marker(skip)
