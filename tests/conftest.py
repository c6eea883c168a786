"Shared by all tests: where the project is, and which tests need the real data."
import os
from pathlib import Path
import pytest

os.environ.setdefault('MPLBACKEND', 'agg')
RAW = 'FETAL_SEG_DATA'   # names the folder of the real data

def named_folder(variable=RAW):
    "The folder that a variable of the environment names, or None."
    folder = os.environ.get(variable)
    return Path(folder) if folder and Path(folder).is_dir() else None

@pytest.fixture(scope='session')
def top(): return Path(__file__).resolve().parent.parent

@pytest.fixture(scope='session')
def raw():
    "The raw folder that FETAL_SEG_DATA names."
    return named_folder() or pytest.skip(f'{RAW} names no folder')

def pytest_collection_modifyitems(items):
    "Tests flagged `data`, or `data(VARIABLE)`, are skipped, by name, where there are no data."
    for item in items:
        flag = item.get_closest_marker('data')
        if flag is None: continue
        variable = flag.args[0] if flag.args else RAW
        if named_folder(variable): continue
        why = f'needs the real data: {variable} names no folder'
        item.add_marker(pytest.mark.skip(reason=why))
