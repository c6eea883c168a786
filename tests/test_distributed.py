"""Two processes give the losses of one with the same batch; a run of two processes that is started
again goes on; and no process leaves before gloo's threads have."""
import os, subprocess, sys
from pathlib import Path
import pandas as pd, pytest

pytest.importorskip('accelerate')

SCRIPT = '''
import atexit, glob, os, sys, warnings
warnings.filterwarnings('ignore')

def check_threads():
    "The last that a process does: say which threads of gloo are left."
    names = [open(f).read().strip() for f in glob.glob('/proc/self/task/*/comm')]
    print('left:', *[n for n in names if 'gloo' in n], file=sys.stderr, flush=True)

atexit.register(check_threads)
import torch
torch.set_num_threads(1)
from fetal_seg.train import train
prepared, run = sys.argv[1:3]
train(prepared, run, 'quick', epochs=4, size=(48,64), width=2, depth=2, norm='group', augment=False,
      bs=4, lr=2e-3)
'''

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('distributed')
    cases = prepare(write_phantoms(d/'raw', n=33, shape=(96, 128)), d/'prepared', size=(96, 128),
                    fractions=(0.6, 0.2, 0.2))
    (d/'job.py').write_text(SCRIPT)
    assert (cases.split == 'train').sum() >= 20
    return d/'prepared'

def launch(prepared, run, n):
    "Run the script in `n` processes."
    env = {
        **os.environ, 'OMP_NUM_THREADS': '1',
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    }
    cmd = [sys.executable]
    if n > 1: cmd += ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n)]
    r = subprocess.run([*cmd, prepared.parent/'job.py', prepared, run], capture_output=True,
                       text=True, timeout=300, env=env)
    assert r.returncode == 0, r.stderr[-3000:]
    assert [l for l in r.stderr.splitlines() if l.startswith('left:')] == ['left:']*n, r.stderr
    return pd.read_csv(run/'log.csv').drop(columns='seconds')

def test_two_processes_give_the_losses_of_one(prepared, tmp_path):
    one, two = launch(prepared, tmp_path/'one', 1), launch(prepared, tmp_path/'two', 2)
    steps = 4*(pd.read_csv(prepared/'cases.csv').split.eq('train').sum()//4)
    assert steps >= 20
    assert one.train_loss.iloc[0] - one.train_loss.iloc[-1] > 1e-3      # something was learnt
    far = (one - two).abs().max()
    assert far.train_loss < 1e-4 and far.valid_loss < 1e-4, far
    # a pixel at the threshold may fall to either side
    assert far.dice < 5e-3, far
