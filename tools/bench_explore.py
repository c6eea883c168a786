"""What a move in the explorer costs in Python (part of `make bench`): threshold, opacity, zoom,
window, at 800x540.

    python tools/bench_explore.py [--moves N] [--run RUN --prepared PREPARED]

A move is timed from the new value to the picture's bytes: prediction at the threshold, Dice, IoU
and area, drawing, PNG. What the browser and the way there add is not in it. Without `--run` six
simulated pictures are made, and a blurred mask of bright things stands in for the heatmap; the
network is not needed, since a heatmap is computed once a case. With `--run` the first sight of a
case is timed too: reading and predicting. The limit of a move is 100 ms (median). The time is the
processor's, so that other work on the machine does not enter; on an idle machine the clock says
the same, and it is printed beside it.
"""
import argparse, sys, tempfile, time
from pathlib import Path
import numpy as np
from scipy.ndimage import gaussian_filter

top = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(top))

class Blurred:
    "Stands for a network: bright things, blurred; several components at many thresholds."
    threshold = 0.5
    def heatmap(self, case):
        heat = gaussian_filter(case.original()/np.float32(255), 8)
        return (heat/heat.max()).astype(np.float32)
    def to_mask(self, heatmap, threshold=None):
        from fetal_seg.predict import postprocess
        return postprocess(heatmap > (self.threshold if threshold is None else threshold))

def simulated(folder):
    "A prepared folder of six pictures."
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    prepare(write_phantoms(Path(folder)/'raw', n=6, shape=(540,800)), Path(folder)/'prepared')
    return Path(folder)/'prepared'

def time_moves(ex, name, values):
    "Milliseconds of each move: of a core, and by the clock."
    out = []
    for v in values:
        cpu, clock = time.process_time(), time.perf_counter()
        setattr(ex, name, v)
        out.append((1000*(time.process_time() - cpu), 1000*(time.perf_counter() - clock)))
    return np.array(out).T

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--moves', type=int, default=100, help='of each kind')
    p.add_argument('--run', help='a run folder; else a heatmap is simulated')
    p.add_argument('--prepared', help='its prepared folder')
    a = p.parse_args(argv)
    from fetal_seg.explore import explore
    with tempfile.TemporaryDirectory() as d:
        prepared = a.prepared or simulated(d)
        ex = explore(a.run or Blurred(), prepared, notes=Path(d)/'notes.csv', split='')
        shapes = ex.cases[(ex.cases.height == 540) & (ex.cases.width == 800)].case
        if not len(shapes): sys.exit(f'{prepared}: no case of 800x540')
        if a.run:
            print('first sight of a case    median {:6.1f} ms of a core, {:6.1f} ms by the clock'.
                  format(*np.median(time_moves(ex, 'case', list(shapes[1:21])), 1)))
        ex.case = shapes.iloc[0]
        ex.layers = ('picture', 'heatmap', 'prediction', 'annotation', 'error')
        spread = np.random.default_rng(0).permutation(np.linspace(0.05, 0.95, a.moves))
        medians = {}
        for name, values in dict(threshold=spread, opacity=spread, zoom=1 + 7*spread,
                                 width=2 + 500*spread).items():
            ms = time_moves(ex, name, list(values))
            medians[name], clock = map(float, np.median(ms, 1))
            print(
                f'a move of the {name:<10} median {medians[name]:6.1f} ms of a core (95 % within '
                f'{np.quantile(ms[0], 0.95):.1f} ms), {clock:6.1f} ms by the clock'
            )
            ex.reset()
    print(f'800x540, all layers: {"under" if max(medians.values()) < 100 else "NOT under"} 100 ms '
          f'of a core a move')
    return medians

if __name__ == '__main__': main()
