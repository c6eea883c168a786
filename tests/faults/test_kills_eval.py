"""`fetal_seg_eval` killed at twenty moments, and called again: all files are those of a run that
was left alone. And two at once."""
import json, os, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from fetal_seg.core import folder_lock, write_json

if not hasattr(os, 'fork'): pytest.skip('needs fork', allow_module_level=True)

KILLS = '''
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import matplotlib.backends.backend_agg, matplotlib.figure, safetensors.torch, torch
from fetal_seg import calibration, cli, detect, eval, predict, report, results, unet
tmp, first, second, seed = Path(sys.argv[1]), *map(json.loads, sys.argv[2:4]), int(sys.argv[4])
out, rng = tmp/'out', random.Random(seed)

def names(d): return sorted(p.relative_to(d).as_posix() for p in d.rglob('*'))
def snapshot(d): return {n: (d/n).read_bytes() for n in names(d) if (d/n).is_file()}
def mortal(n, then):
    "Let `then` be called before the n-th change of the file system; the count."
    count = [0]
    def wrap(f):
        def g(*a, **k):
            count[0] += 1
            if count[0] == n: then()
            return f(*a, **k)
        return g
    for f in (os.replace, os.open, os.unlink, os.rmdir, os.mkdir): setattr(os, f.__name__, wrap(f))
    return count
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def call(argv, n=0, after=None):
    "Evaluate in a child that dies at its n-th change, or after seconds: (dead?, changes, seconds)."
    start, note = time.perf_counter(), tmp/'count'
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2): os.dup2(null, fd)
        count = mortal(n, die)
        if after:
            signal.signal(signal.SIGALRM, die)
            signal.setitimer(signal.ITIMER_REAL, after)
        status = cli.evaluate([*argv, '--out', str(out)])
        note.write_text(str(count[0]))
        os._exit(status)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL, status or int(note.read_text()), time.perf_counter() - start

def begin(k):
    shutil.rmtree(out, ignore_errors=True)
    if k % 2: shutil.copytree(tmp/'old', out)
def whole(k, left):
    "Are the four files old, new, or said to be in between?"
    left = {n: b for n,b in left.items() if n in results.EVALUATION}
    return left in (old if k % 2 else {}, goal) or (out/'.results-placing').exists()

call(second)
shutil.copytree(out, tmp/'old')
begin(0)
_, changes, took = call(first)
goal, old = snapshot(out), snapshot(tmp/'old')
assert set(goal) == set(old) == set(results.EVALUATION) and goal != old
begin(0)
call(first)
assert snapshot(out) == goal, 'two runs that were left alone differ'
moments = [dict(n=1 + round((changes - 1)*i/7)) for i in range(8)] + [
    dict(after=took*rng.uniform(0.3, 0.8)) for _ in range(2)]
killed = []
for k,moment in enumerate(moments):
    begin(k)
    killed.append(call(first, **moment)[0])
    assert not out.exists() or whole(k, snapshot(out)), (moment, names(out))
    assert not call(first)[0]
    assert names(out) == sorted(goal) and snapshot(out) == goal, moment
print(sum(killed), sum((out/n).exists() for n in goal))
'''

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A prepared folder, a run folder with seeded weights, and two folders of masks."
    import torch
    from safetensors.torch import save_file
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    from fetal_seg.unet import UNet
    d = tmp_path_factory.mktemp('kills')
    prepare(write_phantoms(d/'raw', n=16, shape=(48, 64)), d/'prepared', size=(48, 64),
            fractions=(0.4, 0.3, 0.3))
    torch.manual_seed(0)
    net = UNet(width=4, depth=2)
    (d/'run').mkdir()
    save_file(net.state_dict(), d/'run'/'weights.safetensors')
    write_json(d/'run'/'predictor.json', dict(
        format=2, network=net.config, canvas=[48, 64], mode='auto', size=[32, 32],
        intensity='dtype', output='logits', temperature=1., threshold=0.5))
    for i in range(5):
        for side,radius in (('truth', 12), ('pred', 10 + i)):
            y, x = np.mgrid[:48, :64]
            (d/side).mkdir(exist_ok=True)
            Image.fromarray(np.uint8(255*(np.hypot(y-24, x-32) < radius))).save(d/side/f'{i}.png')
    return d

def forms(d):
    "(the command, one of other results) of each form."
    run = ['--run', f'{d}/run', '--prepared', f'{d}/prepared']
    masks = ['--pred', f'{d}/pred', '--truth', f'{d}/truth']
    return dict(run=(run, [*run, '--split', 'valid']),
                masks=(masks, ['--pred', f'{d}/truth', '--truth', f'{d}/pred']))

@pytest.mark.parametrize('form', ['run', 'masks'])
def test_killed_at_ten_moments(world, tmp_path, form):
    first, second = map(json.dumps, forms(world)[form])
    r = subprocess.run([sys.executable, '-c', KILLS, tmp_path, first, second, '0'],
                       capture_output=True, text=True, timeout=600,
                       env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert r.returncode == 0, r.stderr
    killed, files = map(int, r.stdout.split())
    assert killed >= 9 and files == 4, r.stdout

# Two at once

def evaluate(world, out): return [*forms(world)['masks'][0], '--out', str(out)]

def test_a_second_one_is_refused(world, tmp_path, capsys):
    from fetal_seg import cli
    (tmp_path/'out').mkdir()
    with folder_lock(tmp_path/'out'): assert cli.evaluate(evaluate(world, tmp_path/'out')) == 2
    err = capsys.readouterr().err
    assert f'{tmp_path}/out: another process (number {os.getpid()}, for 0 s) is writing' in err
    assert err.count('\n') == 1 and not list((tmp_path/'out').iterdir())

def test_two_at_once(world, tmp_path):
    "Whatever comes of it: one of them is done, and its files are whole."
    command = [sys.executable, '-c', 'import sys; from fetal_seg.cli import evaluate; '
               'sys.exit(evaluate(sys.argv[1:]))', *evaluate(world, tmp_path/'out')]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    errors = [j.communicate(timeout=120)[1] for j in jobs]
    status = [j.returncode for j in jobs]
    assert 0 in status and set(status) <= {0, 2}, errors
    for s,e in zip(status, errors): assert not s or 'another process (number' in e
    assert len(list((tmp_path/'out').iterdir())) == 4

def test_two_verifications_into_one_file(world, tmp_path):
    "The file is written whole: the last one stays."
    f = tmp_path/'verify.json'
    command = [sys.executable, '-c', 'import sys; from fetal_seg.cli import verify; '
               'sys.exit(verify(sys.argv[1:]))', f'{world}/prepared', '--out', str(f),
               '--workers', '0']
    jobs = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert {j.wait(120) for j in jobs} <= {0, 1}
    assert json.loads(f.read_text())['facts']['cases'] == 16
    assert [p.name for p in tmp_path.iterdir()] == ['verify.json']
