"""A folder of pictures through `predict_files` with the weights that ship: pictures a second and
peak memory (part of `make bench`).

    python tools/bench_folder.py [--pictures N] [--processes N ...] [--different N]

The default is a small folder (400 pictures); the one that counts is `--pictures 10000`. The
pictures: 40 different simulated ones, 540x800 uint8, linked under N names. Every picture is read,
predicted and written out (heatmap, mask, overlay) as in `fetal_seg_predict`; what is written is
removed as soon as it is there, by the process that watches. Each number of processes is a job of
its own: 1 is `workers=0`, one process whose network has the threads of OMP_NUM_THREADS (else one a
core); 2 and more are workers with one thread each, beside the process that started them. The
seconds are those of `predict_files`, the start of its workers and the loading of their weights
included. The memory is the resident one of the job and all its children, added up and sampled
twice a second; what processes share (libraries) counts in each. The peak in all includes the end
of the workers, when each holds up to some 100 MiB more for a moment. Flat means: from the second
tenth of the pictures to the last tenth the median grows by at most 5 %.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

SIZE, KINDS, MOST = (540, 800), ('heatmap', 'mask', 'overlay'), 0.05

def get_args():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--pictures', type=int, default=400, help='how many (default: %(default)s)')
    p.add_argument('--processes', type=int, nargs='+', default=[1, 2],
                   help='numbers of processes, a job each (default: 1 and 2)')
    p.add_argument('--different', type=int, default=40,
                   help='different pictures (default: %(default)s)')
    # the job itself
    p.add_argument('--job', nargs=3, metavar=('FOLDER', 'OUT', 'PROCESSES'), help=argparse.SUPPRESS)
    return p.parse_known_args()[0]

def write_pictures(folder, n, different):
    "`n` names of `different` simulated pictures."
    from fetal_seg.phantom import simulate
    from fetal_seg.preprocess import save_png
    folder.mkdir()
    for i in range(n):
        f = folder/f'{i:06}.png'
        if i < different: save_png(f, simulate(i, shape=SIZE)[0])
        else: os.link(folder/f'{i % different:06}.png', f)

def do_job(folder, out, processes):
    "The job: predict them all; a line of JSON."
    from fetal_seg.predict import Predictor, predict_files
    predictor, paths = Predictor(), sorted(Path(folder).iterdir())
    t = time.perf_counter()
    table = predict_files(predictor, paths, out, spacing=0.1,
                          workers=int(processes) if int(processes) > 1 else 0)
    print(json.dumps(dict(seconds=time.perf_counter() - t, done=int((table.problem == '').sum()))))

def resident(process):
    "MiB that a process and all its children hold."
    import psutil
    total = 0
    for q in [process, *process.children(recursive=True)]:
        try: total += q.memory_info().rss
        except psutil.Error: pass   # it has just ended
    return total/2**20

def sweep(out):
    "Remove what is finished; the number of pictures that it was."
    # the last of the three
    done = [p.name[:-len('_overlay.png')]
            for p in out.glob('[!.]*_overlay.png')] if out.exists() else []
    for n in done:
        for k in KINDS: (out/f'{n}_{k}.png').unlink()
    return len(done)

def measure(folder, out, processes):
    "What the job told, and (pictures done, MiB) twice a second."
    import psutil
    job = subprocess.Popen(
        [sys.executable, __file__, '--job',
         str(folder), str(out),
         str(processes)], stdout=subprocess.PIPE, text=True)
    done, samples, process = 0, [], psutil.Process(job.pid)
    try:
        while job.poll() is None:
            done += sweep(out)
            try: samples.append((done, resident(process)))
            except psutil.NoSuchProcess: break
            time.sleep(0.5)
    finally:
        if job.poll() is None: job.terminate(); job.wait()
    told = job.communicate()[0]
    if job.returncode: sys.exit('the job ended early; its message is above')
    sweep(out)
    return json.loads(told), samples

def main():
    a = get_args()
    if a.job: return do_job(*a.job)
    if min(a.pictures, a.different, *a.processes) < 1:
        sys.exit('--pictures, --different and --processes: give 1 or more')
    import numpy as np
    print(f'{a.pictures} pictures of {SIZE[1]}x{SIZE[0]}, {min(a.different, a.pictures)} '
          f'different ones; {os.environ.get("OMP_NUM_THREADS") or "all"} thread(s) for one '
          f'process', flush=True)
    flat = True
    with tempfile.TemporaryDirectory() as d:
        write_pictures(Path(d)/'pictures', a.pictures, a.different)
        for n in a.processes:
            told, samples = measure(Path(d)/'pictures', Path(d)/f'out-{n}', n)
            if told['done'] != a.pictures:
                sys.exit(f'{told["done"]} of {a.pictures} pictures were predicted')
            share, mib = np.array(samples).T/[[a.pictures], [1]]
            early, late = (float(np.median(mib[(share >= lo) & (share < hi)])) if
                           ((share >= lo) & (share < hi)).any() else float('nan')
                           for lo, hi in ((0.1, 0.2), (0.9, 1)))
            flat = flat and (None if np.isnan([early, late]).any() else late/early - 1 <= MOST)
            print(
                f'{n} process(es): {a.pictures/told["seconds"]:6.1f} pictures a second '
                f'({told["seconds"]:.0f} s); memory: peak {mib[share <= 0.1].max():.0f} MiB in '
                f'the first tenth, {mib.max():.0f} MiB in all; '
                f'median {early:.0f} MiB in the second tenth, {late:.0f} MiB in the last '
                f'({late/early-1:+.1%})',
                flush=True)
    print('too few pictures to say whether the memory is flat' if flat is
          None else f'memory is {"flat" if flat else "NOT flat"} within {MOST:.0%}')
    sys.exit(flat is False)

if __name__ == '__main__': main()
