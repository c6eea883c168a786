"The check that nothing in the library runs what it reads finds what is planted, by any name."
import importlib.util, subprocess, sys
import pytest

@pytest.fixture(scope='module')
def safe(top):
    spec = importlib.util.spec_from_file_location('safe', top/'tools'/'safe.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

PLANTED = ['import pickle', 'import pickle as p', 'from pickle import loads', 'import marshal',
           'import shelve, os', 'import dill', 'from joblib import load', 'import cloudpickle',
           'import torch\ntorch.load(f)', 'import torch as t\nt.load(f, weights_only=True)',
           'from torch import load as read\nread(f)', 'import torch\nread = torch.load',
           'from torch.serialization import load', 'import torch.hub\ntorch.hub.load("a", "b")',
           'from fastai.vision.all import *\nload_learner(f)',
           'import fastai\nfastai.load_learner(f)',
           'import numpy as np\nnp.load(f, allow_pickle=True)',
           'from numpy import load\nload(f, None, True)',
           'import numpy as np\nnp.load(f, allow_pickle=yes)',
           'import pandas as pd\npd.read_pickle(f)',
           'df.to_pickle(f)', 'eval("1")', 'run = exec', 'compile("1", "a", "eval")',
           '__import__("pickle")', 'import builtins\nbuiltins.eval("1")', 'df.eval("a + b")',
           'import pandas as pd\npd.eval("1")', 'getattr(b, "eval")("1")',
           'import os\nos.system("ls")', 'from os import popen', 'import os\nos.execvp("ls", [])',
           'import subprocess\nsubprocess.run("ls", shell=True)',
           'import subprocess as s\ns.Popen("ls", shell=flag)', 'from subprocess import getoutput',
           'import yaml\nyaml.load(f)', 'import yaml\nyaml.unsafe_load(f)',
           'import importlib\nimportlib.import_module(name)',
           'from importlib import import_module\nimport_module("pickle")',
           'def f():\n    if 1:\n        import pickle']
HARMLESS = ['model.eval()', 'import re\nre.compile("a")', 'from torch.utils.data import DataLoader',
            'import numpy as np\nnp.load(f)', 'import numpy as np\nnp.load(f, allow_pickle=False)',
            'import json\njson.load(f)', 'import subprocess\nsubprocess.run(["ls"], shell=False)',
            'import importlib\nimportlib.import_module("wandb")', '"eval exec pickle"',
            'from .core import load', 'import yaml\nyaml.safe_load(f)', 'self.load(f)']

@pytest.mark.parametrize('text', PLANTED)
def test_what_is_planted_is_found(safe, text):
    found = safe.faults(text)
    assert found and all(1 <= line <= text.count('\n') + 1 for line,_ in found)

@pytest.mark.parametrize('text', HARMLESS)
def test_what_is_harmless_is_not(safe, text): assert safe.faults(text) == []

def test_the_command(top, tmp_path):
    (tmp_path/'planted.py').write_text('import torch\n\ndef read(f): return torch.load(f)\n')
    r = subprocess.run([sys.executable, top/'tools'/'safe.py', tmp_path/'planted.py'],
                       capture_output=True, text=True)
    assert r.returncode == 1 and r.stdout == f'{tmp_path/"planted.py"}:3: torch.load\n'
    assert subprocess.run([sys.executable, top/'tools'/'safe.py', tmp_path/'no.py'],
                          capture_output=True).returncode == 2

def test_bandit_would_see_it(safe, tmp_path, monkeypatch):
    "With the project's own configuration."
    pytest.importorskip('bandit')
    (tmp_path/'fetal_seg').mkdir(); (tmp_path/'tools').mkdir()
    (tmp_path/'tools'/'bandit.yaml').write_bytes((safe.top/'tools'/'bandit.yaml').read_bytes())
    (tmp_path/'fetal_seg'/'planted.py').write_text(
        'import os, pickle, subprocess, torch, yaml\npickle.loads(b"")\neval(input())\nexec("")\n'
        'subprocess.run("ls", shell=True)\nos.system(input())\ntorch.load("a")\nyaml.load("a")\n')
    monkeypatch.setattr(safe, 'top', tmp_path)
    found = '\n'.join(safe.bandit())
    for line,rule in enumerate(('B301', 'B307', 'B102', 'B602', 'B605', 'B614', 'B506'), 2):
        assert f'planted.py:{line}: bandit {rule}' in found, found
