"""`prepare` killed at twenty moments, in an empty folder and in one of another seed and other
shares: called again, it ends with the files of a run that was left alone."""
import os, subprocess, sys
import pytest

if not hasattr(os, 'fork'): pytest.skip('needs fork', allow_module_level=True)

KILLS = '''
import os, random, shutil, signal, sys, time
from pathlib import Path
from fetal_seg.phantom import write_phantoms
from fetal_seg.preprocess import prepare
tmp, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
raw, out = write_phantoms(tmp/'raw', n=14, shape=(32, 48)), tmp/'out'

def names(d): return sorted(p.relative_to(d).as_posix() for p in d.rglob('*'))
def snapshot(d): return {n: (d/n).read_bytes() for n in names(d) if (d/n).is_file()}
def make(out): prepare(raw, out, (32, 48), seed=1, fractions=(0.5, 0.25, 0.25))
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def call(n=0, after=None):
    "Prepare in a child that dies at its n-th change, or after seconds: (dead?, changes, seconds)."
    start, note, count = time.perf_counter(), tmp/'count', [0]
    def wrap(f):
        def g(*a, **k):
            count[0] += 1
            if count[0] == n: die()
            return f(*a, **k)
        return g
    pid = os.fork()
    if not pid:
        for f in (os.replace, os.open, os.unlink, os.rmdir, os.mkdir):
            setattr(os, f.__name__, wrap(f))
        if after:
            signal.signal(signal.SIGALRM, die)
            signal.setitimer(signal.ITIMER_REAL, after)
        make(out)
        note.write_text(str(count[0]))
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL, status or int(note.read_text()), time.perf_counter() - start

prepare(raw, tmp/'old', (32, 48), seed=0, fractions=(0.8, 0.1, 0.1))
make(tmp/'want')
goal, killed = snapshot(tmp/'want'), []
assert goal['cases.csv'] != snapshot(tmp/'old')['cases.csv']
def begin(k):
    shutil.rmtree(out, ignore_errors=True)
    if k: shutil.copytree(tmp/'old', out)
for k in (0, 1):
    begin(k)
    _, changes, took = call()
    assert snapshot(out) == goal
    moments = [dict(n=1 + round((changes - 1)*i/7)) for i in range(8)]
    for moment in moments + [dict(after=took*rng.uniform(0.2, 0.8)) for _ in range(2)]:
        begin(k)
        killed.append(call(**moment)[0])
        make(out)
        assert names(out) == names(tmp/'want') and snapshot(out) == goal, (k, moment)
print(sum(killed))
'''

def test_killed_at_twenty_moments(tmp_path):
    r = subprocess.run([sys.executable, '-c', KILLS, tmp_path, '0'], capture_output=True, text=True,
                       timeout=600, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert r.returncode == 0, r.stderr
    assert int(r.stdout) >= 18, r.stdout
