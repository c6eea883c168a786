"""`fetal_seg_train` struck at any moment and called again leaves what it leaves undisturbed, times
aside; and a second one in the same folder is refused."""
import json, os, signal, subprocess, sys
from pathlib import Path
import pytest

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('kills')
    prepare(write_phantoms(d/'raw', n=12, shape=(64, 96)), d/'prepared', size=(64, 96),
            fractions=(0.6, 0.2, 0.2))
    return d/'prepared'

def forked(*args):
    "The JSON lines of kills_train.py."
    r = subprocess.run([sys.executable, Path(__file__).with_name('kills_train.py'), *map(str, args)],
                       capture_output=True, text=True, timeout=600,
                       env={**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'})
    assert r.returncode == 0, r.stderr[-3000:]
    return [json.loads(l) for l in r.stdout.splitlines()]

@pytest.mark.parametrize('n', [20, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment(prepared, tmp_path, n):
    whole, *found = forked('kills', prepared, tmp_path, n)
    assert len(found) == n + 2 and whole['operations'] > 20
    assert {'weights.safetensors', 'last.safetensors', 'predictor.json', 'log.csv', 'curve.png',
            'seen.csv', 'train.json', 'card.md', 'tensorboard'} == set(whole['files'])
    print(json.dumps(whole), *map(json.dumps, found), sep='\n')
    for m in found:
        # a moment in seconds may come too late on a machine that was slow at first
        late = m['moment'][0] == 'seconds' and m['struck'] == 0
        ends = {signal.SIGINT: [130], signal.SIGTERM: [143, -15]}   # the command's, or the system's
        assert late or m['struck'] in ends.get(m['signal'], [-m['signal']]), m
        assert m['again'] == 0 and m['different'] == [], m

def test_two_at_once(prepared, tmp_path):
    found, = forked('twice', prepared, tmp_path)
    assert found['stopped'] == -signal.SIGSTOP and found['second'] == 2 and found['same'], found
    line = found['text'].strip().splitlines()[-2]     # the last is the count of operations
    assert f'another process (number {found["first"]}, for ' in line, line
    assert 'wait until it has ended' in line and 'Traceback' not in found['text']
    assert found['took'] < 10 and found['end'] == 0 and found['different'] == [], found
