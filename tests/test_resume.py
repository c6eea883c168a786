"""A training killed with SIGKILL in mid-epoch and started again ends with the weights of one that
was left alone, bit for bit (CPU, same thread count)."""
import os, signal, subprocess, sys
import pandas as pd, pytest

SCRIPT = '''
import sys, warnings
warnings.filterwarnings('ignore')
import torch
torch.set_num_threads(1)
from fastai.callback.core import Callback
from fetal_seg.train import train

class Tell(Callback):
    "Say which step was done, so that the test knows when to kill."
    def after_batch(self):
        if self.training: print(self.epoch, self.iter, flush=True)

train(sys.argv[1], sys.argv[2], 'quick', epochs=3, size=(48,64), width=2, depth=2, dropout=0.1,
      bs=4, cbs=[Tell()])
'''

def start(prepared, run):
    return subprocess.Popen([sys.executable, prepared.parent/'job.py', prepared, run],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('resume')
    prepare(write_phantoms(d/'raw', n=33, shape=(96, 128)), d/'prepared', size=(96, 128),
            fractions=(0.6, 0.2, 0.2))
    (d/'job.py').write_text(SCRIPT)
    return d/'prepared'

@pytest.fixture(scope='module')
def whole(prepared, tmp_path_factory):
    run = tmp_path_factory.mktemp('whole')
    job = start(prepared, run)
    job.communicate(timeout=300)
    assert job.returncode == 0
    return run

@pytest.mark.parametrize('epoch,step', [(0, 2), (1, 0), (2, 3)])
def test_killed_and_started_again(prepared, whole, tmp_path, epoch, step):
    job = start(prepared, tmp_path/'run')
    for line in job.stdout:
        if line.split() == [str(epoch), str(step)]: break
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    done = len(pd.read_csv(tmp_path/'run'/'log.csv')) if (tmp_path/'run'/'log.csv').exists() else 0
    assert done == epoch                                                 # killed in mid-epoch
    again = start(prepared, tmp_path/'run')
    first = again.stdout.readline().split()
    again.communicate(timeout=300)
    # at most one epoch is done again
    assert again.returncode == 0 and first == [str(epoch), '0']
    for name in ('weights.safetensors', 'predictor.json'):
        assert (tmp_path/'run'/name).read_bytes() == (whole/name).read_bytes(), name
    logs = [pd.read_csv(d/'log.csv').drop(columns='seconds') for d in (whole, tmp_path/'run')]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
