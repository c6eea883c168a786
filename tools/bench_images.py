"""What reading an 800x540 grey PNG costs beside Pillow's bare decoding.

    python tools/bench_images.py [--repeats N]

Paired and alternating; the median of the ratios is printed, with its quartiles.
"""
import argparse, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from fetal_seg.images import read_img
from fetal_seg.phantom import simulate

def bare(f): return np.asarray(Image.open(f))

def seconds(g, f):
    t = time.perf_counter()
    g(f)
    return time.perf_counter() - t

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--repeats', type=int, default=200, help='pairs (default: %(default)s)')
    n = p.parse_known_args()[0].repeats
    with tempfile.TemporaryDirectory() as d:
        f = Path(d)/'a.png'
        Image.fromarray(simulate(3, shape=(540,800))[0]).save(f)
        if not (read_img(f) == bare(f)).all():
            raise SystemExit('both ways must give the same pixels')
        pairs = []
        for i in range(n):
            order = (bare, read_img) if i % 2 else (read_img, bare)
            t = dict(zip(order, [seconds(g, f) for g in order]))
            pairs.append((t[read_img], t[bare]))
    ours, theirs = np.array(pairs).T
    q = np.quantile(ours/theirs, [0.25, 0.5, 0.75])
    print(f'read_img {1000*np.median(ours):.2f} ms, Pillow {1000*np.median(theirs):.2f} ms; ratio '
          f'{q[1]:.3f} ({q[0]:.3f} to {q[2]:.3f}, quartiles of {n} pairs)')

if __name__ == '__main__': main()
