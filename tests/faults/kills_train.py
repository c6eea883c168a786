"""Train at all, train killed, train twice: what test_kills_train.py starts.

    python kills_train.py kills PREPARED FOLDER MOMENTS | twice PREPARED FOLDER

Prints a JSON line for each moment: where it was, how the struck process ended, how the same command
ended afterwards, and the names of the files that are not as in a training that was left alone.
"""
import json, os, random, signal, sys, time, warnings
from pathlib import Path
warnings.filterwarnings('ignore')
import fetal_seg.calibration, fetal_seg.card, fetal_seg.report, fetal_seg.train
import matplotlib.backends.backend_agg
import torch
from safetensors.torch import safe_open
from fetal_seg import cli
from forked import call, ended, operations

def command(prepared, run):
    "fetal_seg_train: two small epochs, calibrate, the card."
    def start():
        torch.set_num_threads(1)
        return cli.train([str(prepared), str(run), '--preset', 'quick', '--epochs', '2', '--size',
                          '32', '48', '--width', '4', '--bs', '4', '--log', 'tensorboard'])
    return start

def content(f):
    "What a file says, times and the machine aside."
    if f.name == 'log.csv': return [l.rsplit(',', 1)[0] for l in f.read_text().splitlines()]
    if f.name == 'train.json': return {**json.loads(f.read_text()), 'environments': None}
    if f.parent.name == 'tensorboard': return 'tensorboard'
    if f.name != 'last.safetensors': return f.read_bytes()
    with safe_open(f, 'np') as o:
        record = json.loads(o.metadata()['fetal_seg'])
        for row in record['rows']: row.pop('seconds')
        return record, {k: o.get_tensor(k).tobytes() for k in o.keys()}

def contents(run):
    names = {f: 'tensorboard' if f.parent.name == 'tensorboard' else f.relative_to(run).as_posix()
             for f in run.rglob('*') if f.is_file()}
    return {n: content(f) for f,n in names.items()}

def different(run, whole):
    "Names of the files that only one of two folders has, or that are not the same in both."
    return sorted(n for n in {*run, *whole} if run.get(n) != whole.get(n))

def moments(n, total, seconds, seed=13):
    "Most before an operation, some in the middle of a file, some at any time; (moment, signal)."
    rng = random.Random(seed)
    torn = [('torn', k) for k in rng.sample(range(1, 10), min(9, max(1, n//10)))]
    times = [('seconds', rng.uniform(0.05, 0.95)*seconds) for _ in range(n//5)]
    rest = n - len(torn) - len(times)
    step = total/rest   # one out of each part of the operations
    ones = [('operation', 1 + int((i + rng.random())*step)) for i in range(rest)]
    return [(m, signal.SIGKILL) for m in (*ones, *torn, *times)] + [
        (('operation', rng.randrange(5, total - 5)), s) for s in (signal.SIGTERM, signal.SIGINT)]

def kills(prepared, folder, n):
    run, said, t = folder/'whole', folder/'said', time.monotonic()
    status = ended(call(command(prepared, run), run, said))
    assert status == 0, said.read_text()
    seconds, total, whole = time.monotonic() - t, operations(said), contents(run)
    print(json.dumps(dict(files=sorted(whole), operations=total, seconds=seconds)), flush=True)
    for i,(moment,sign) in enumerate(moments(n, total, seconds)):
        run = folder/f'{i}'
        struck = ended(call(command(prepared, run), run, said, moment, sign))
        if run.exists(): (run/'.log-12345678.csv').write_text('half')   # as an earlier kill left it
        again = ended(call(command(prepared, run), run, said))
        print(json.dumps(dict(moment=moment, signal=sign, struck=struck, again=again,
                              different=different(contents(run), whole),
                              said=said.read_text()[-2000:] if again else '')), flush=True)

def twice(prepared, folder):
    "The first is halted in its middle; the second must be refused, and the first not notice."
    run, said, whole = folder/'run', folder/'said', folder/'whole'
    assert ended(call(command(prepared, whole), whole, said)) == 0
    first = call(command(prepared, run), run, said, ('operation', operations(said)//2),
                 signal.SIGSTOP)
    stopped = ended(first)
    before, t = contents(run), time.monotonic()
    second = ended(call(command(prepared, run), run, folder/'second'))
    took, same = time.monotonic() - t, contents(run) == before
    os.kill(first, signal.SIGCONT)
    print(json.dumps(dict(first=first, stopped=stopped, second=second, took=took, same=same,
                          text=(folder/'second').read_text(), end=ended(first),
                          different=different(contents(run), contents(whole)))))

if __name__ == '__main__':
    job, prepared, folder, *n = sys.argv[1:]
    {'kills': kills, 'twice': twice}[job](Path(prepared), Path(folder), *map(int, n))
