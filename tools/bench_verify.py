"""How `verify` scales (part of `make bench`): time per case and peak memory on 1,000, 3,000 and
10,000 simulated cases.

    python tools/bench_verify.py [--cases N ...] [--workers N] [--kind raw|prepared]

The pictures are made here and removed afterwards: sixteen simulated ones of 272x184, and for each
case one of them, moved, dimmed and clouded in its own way, so that no two are alike. Each number
of cases is verified by a process of its own. The time is the processor's, of all processes
together and with their start, so that other work on the machine does not enter; the seconds that
passed are printed beside it. The memory is the largest that the parent held, and the largest of a
worker: the kernel's VmHWM where there is one, since what `resource` says of a process begins with
the size of the one that started it. Flat means: the time per case at the largest number is at most
20 %, and the memory of all processes at most 10 %, above that at the smallest.
"""
import argparse, json, os, resource, subprocess, sys, tempfile, time
from multiprocessing import active_children
from pathlib import Path
from threading import Event, Thread
import numpy as np
from PIL import Image

top = Path(__file__).resolve().parent.parent
shape, bases = (184,272), 16

def base_pictures():
    "(picture, outline) of the phantoms that all cases are made from."
    from fetal_seg.phantom import simulate
    return [(img, outline)
            for img, _, outline in (simulate(i, shape, cut=False) for i in range(bases))]

START = 20   # cases of the run that shows what the start of the processes costs

def write_case(i, folder, pictures):
    "Case number `i`, like no other."
    rng = np.random.default_rng(i)
    img, outline = pictures[i % bases]
    move = rng.integers(-12, 13, 2)
    cloud = Image.fromarray(rng.normal(0, 40, (6, 8)).astype(np.float32)).resize(
        shape[::-1], Image.Resampling.BICUBIC)
    img = np.roll(img, move, (0,1))*rng.uniform(0.6, 1) + np.asarray(cloud)
    at = Path(folder)/'train'/'malignant'
    Image.fromarray(img.clip(0, 255).astype(np.uint8)).save(at/f'{i+1}_HC.png', compress_level=1)
    Image.fromarray(np.roll(outline, move,
                            (0, 1))*np.uint8(255)).save(at/f'{i+1}_HC_Annotation.png',
                                                        compress_level=1)

def write_cases(folder, n, first=0):
    "A raw folder of `n` cases; `first` of them are there already."
    pictures = base_pictures()
    (Path(folder)/'train'/'malignant').mkdir(parents=True, exist_ok=True)
    for i in range(first, n): write_case(i, folder, pictures)

def peak_memory(who='self'):
    """The most memory that a process has held, MiB, as Linux knows it; 0 where it has ended, or
    where this is no Linux."""
    try: lines = Path(f'/proc/{who}/status').read_text().splitlines()
    except OSError: return 0
    return max((int(l.split()[1])/1024 for l in lines if l.startswith('VmHWM')), default=0)

def watch(peaks, stop):
    "Note the peak memory of each worker, several times a second."
    while not stop.wait(0.1):
        for p in active_children(): peaks[p.pid] = max(peaks.get(p.pid, 0), peak_memory(p.pid))

def run_one(folder, workers):
    "Verify one folder in this process, and print what it took."
    from fetal_seg.verify import verify
    peaks, stop, start = {}, Event(), time.perf_counter()
    Thread(target=watch, args=(peaks, stop), daemon=True).start()
    v = verify(folder, workers=workers)
    seconds = time.perf_counter() - start
    stop.set()
    own, others = (resource.getrusage(who)
                   for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(u.ru_utime + u.ru_stime for u in (own, others))
    print(
        json.dumps(
            dict(cases=v.facts['cases'], findings=len(v.findings), seconds=seconds, cpu=cpu,
                 parent=peak_memory() or own.ru_maxrss/1024, worker=max(peaks.values(), default=0)
                 or others.ru_maxrss/1024)))

def measure(folder, workers):
    "The same in a process of its own."
    env = dict(os.environ, PYTHONPATH=str(top), OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')
    r = subprocess.run([sys.executable, __file__, '--one',
                        str(folder), '--workers',
                        str(workers)], env=env, capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    return json.loads(r.stdout.splitlines()[-1])

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--cases', type=int, nargs='+', default=[1000, 3000, 10000],
                   help='how many cases')
    p.add_argument(
        '--workers', type=int, default=len(os.sched_getaffinity(0)) if hasattr(
            os, 'sched_getaffinity') else os.cpu_count(),
        help='processes; one a core where not given')
    p.add_argument('--kind', choices=('raw', 'prepared'), default='raw',
                   help='verify the raw folder, or the prepared one made from it')
    p.add_argument('--one', help=argparse.SUPPRESS)
    a = p.parse_args(argv)
    if a.one: return run_one(a.one, a.workers)
    sys.path.insert(0, str(top))
    rows, done = [], 0
    with tempfile.TemporaryDirectory() as d:
        for n in [START, *sorted(a.cases)]:
            write_cases(Path(d)/'raw', n, done)
            done = n
            if a.kind == 'prepared':
                from fetal_seg.preprocess import prepare
                prepare(Path(d)/'raw', Path(d)/'prepared', size=shape, workers=a.workers)
            r = measure(Path(d)/a.kind, a.workers)
            if n == START:
                start = r['cpu']
                print(f'{n:6} cases: {start:.2f} s of a core, nearly all of it the start of the '
                      'processes', flush=True)
                continue
            rows.append(r)
            print(f'{r["cases"]:6} cases: {r["seconds"]:6.1f} s passed, '
                  f'{1000*r["cpu"]/r["cases"]:5.2f} ms of a core a case, peak memory '
                  f'{r["parent"]:.0f} MiB in the parent, '
                  f'{r["worker"]:.0f} MiB in a worker; {r["findings"]} findings', flush=True)
    ms, net, peak = ([f(r)
                      for r in rows]
                     for f in (lambda r: r['cpu']/r['cases'],
                               lambda r: (r['cpu'] - start)/(r['cases'] - START),
                               lambda r: r['parent'] + a.workers*r['worker']))
    def flat(v, most): return (f'{v[-1]/v[0]-1:+.0%}, '
                               f'{"flat" if max(v) <= (1 + most)*min(v) else "NOT flat"} within '
                               f'{most:.0%}')
    print(f'{a.kind}, {a.workers} workers: time per case without the start {1000*net[0]:.2f} to '
          f'{1000*net[-1]:.2f} ms of a core ({flat(net, 0.2)}; with it {ms[-1]/ms[0]-1:+.0%}), '
          f'memory of all processes {peak[0]:.0f} to {peak[-1]:.0f} MiB ({flat(peak, 0.1)})')

if __name__ == '__main__': main()
