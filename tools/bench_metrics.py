"""What the scores of a case cost beside four other tools, and how scoring 1,000 cases scales (part
of `make bench`).

    python tools/bench_metrics.py [--pairs N] [--cases N] [--workers N]

1. Dice, HD, HD95, ASSD and NSD of one 800x540 pair of simulated masks: ours all together, each
   other tool those of them that it offers. For each pair the tools take turns, in an order that
   changes; printed is the median over pairs of (time of the tool)/(time of ours), with its
   quartiles. The time is the processor's, with one thread each, so that other work on the machine
   hardly enters. On the first pair, which is not timed, the figures must be equal. MedPy: dc,
   hd95, assd. MONAI: compute_dice, compute_hausdorff_distance, compute_average_surface_distance
   and compute_surface_dice, on tensors that are there already. SimpleITK: LabelOverlapMeasures,
   LabelContour and HausdorffDistance (HD and the mean of both directions), on images that are
   there already. scikit-image: find_boundaries and hausdorff_distance (HD; it has none of the
   others).
2. All scores in pixels and mm of cases that are read from PNG files, with one worker process, then
   with more; seconds that passed, the start of the processes included.
"""
import argparse, os, tempfile, time
for k in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS',
          'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'):
    os.environ.setdefault(k, '1')
from functools import partial
from pathlib import Path
import numpy as np
from fetal_seg.core import n_cores, pmap
from fetal_seg.metrics import score, score_case, score_surface
from fetal_seg.phantom import ellipse_coords, random_region, smooth_noise
from fetal_seg.preprocess import read_mask, save_png

shape, tolerance = (540,800), 4.

def simulate_pair(seed):
    """A head, and a prediction of it that is moved, resized and rough; every tenth with a stray
    piece."""
    rng = np.random.default_rng(seed)
    region, at = random_region(rng, shape), np.mgrid[:shape[0],:shape[1]].astype(np.float32)
    near = region._replace(cy=region.cy + rng.normal(0, 4), cx=region.cx + rng.normal(0, 4),
                           a=region.a*rng.normal(1, 0.02), b=region.b*rng.normal(1, 0.02))
    (u,v), (p,q) = ellipse_coords(region, *at), ellipse_coords(near, *at)
    mask = np.hypot(p, q) + 0.02*smooth_noise(rng, shape, (14,14)) <= 1
    if seed % 10 == 0: mask[5:15,5:25] = 1
    return mask.astype(np.uint8), (np.hypot(u, v) <= 1).astype(np.uint8)

def ours(mask, truth):
    s = score_surface(mask, truth, tolerance=tolerance)
    return dict(dice=score(mask, truth)['dice'], hd=s['hd'], hd95=s['hd95'], assd=s['assd'],
                nsd=s['nsd'])

def get_medpy():
    from medpy.metric import binary as m
    return lambda mask, truth: (mask, truth), lambda mask, truth: dict(
        dice=m.dc(mask, truth), pooled=m.hd95(mask, truth), assd=m.assd(mask, truth))

def get_monai():
    import torch
    from monai import metrics as m
    torch.set_num_threads(1)
    one = lambda mask: torch.from_numpy(mask)[None,None].float()
    def run(x, y):
        return dict(
            dice=float(m.compute_dice(x, y)),
            hd95=float(m.compute_hausdorff_distance(x, y, include_background=True, percentile=95)),
            assd=float(
                m.compute_average_surface_distance(x, y, include_background=True, symmetric=True)),
            nsd=float(m.compute_surface_dice(x, y, [tolerance], include_background=True)))
    return lambda mask, truth: (one(mask), one(truth)), run

def get_itk():
    import SimpleITK as sitk
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    def run(x, y):
        overlap, f = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
        overlap.Execute(x, y)
        f.Execute(sitk.LabelContour(x), sitk.LabelContour(y))
        return dict(dice=overlap.GetDiceCoefficient(), hd=f.GetHausdorffDistance(),
                    masd=f.GetAverageHausdorffDistance())
    return lambda mask, truth: (sitk.GetImageFromArray(mask), sitk.GetImageFromArray(truth)), run

def get_skimage():
    from skimage.metrics import hausdorff_distance
    from skimage.segmentation import find_boundaries
    return lambda mask, truth: (mask, truth), lambda mask, truth: dict(hd=hausdorff_distance(*(
        find_boundaries(m, mode='inner') for m in (mask, truth))))

TOOLS = {'MedPy': get_medpy, 'MONAI': get_monai, 'SimpleITK': get_itk, 'scikit-image': get_skimage}

def timed(f, args, clock=time.process_time):
    start = clock()
    out = f(*args)
    return clock() - start, out

def check(name, theirs, mask, truth):
    "Their figures are ours."
    other = score_surface(mask, truth, tolerance=tolerance, hd95='pooled', assd='mean')
    mine = ours(mask, truth) | dict(pooled=other['hd95'], masd=other['assd'])
    for k,v in theirs.items():
        if abs(v - mine[k]) > 1e-5*max(1, abs(v)):
            raise SystemExit(f'{name}: {k} is {v}, ours {mine[k]}')

def compare_tools(n):
    tools, seconds, offers = {'ours': (lambda *o: o, ours)} | {k: f()
                                                               for k, f in TOOLS.items()}, {}, {}
    for i in range(-1, n):   # the first pair warms up
        pair = simulate_pair(i + 1)
        for name in np.roll(list(tools), i):
            prepare, run = tools[name]
            t, out = timed(run, prepare(*pair))
            if i < 0: check(name, out, *pair)
            else: seconds.setdefault(name, []).append(t)
            offers[name] = [k for k in out if k != 'hd' or name in ('SimpleITK', 'scikit-image')]
    mine = np.array(seconds['ours'])
    print(f'ours: {1000*np.median(mine):.2f} ms a pair (dice, hd, hd95, assd, nsd)')
    for name in TOOLS:
        t = np.array(seconds[name])
        q = np.quantile(t/mine, [0.25, 0.5, 0.75])
        print(f'{name}: {1000*np.median(t):.2f} ms ({", ".join(offers[name])}); {q[1]:.1f} times '
              f'ours ({q[0]:.1f} to {q[2]:.1f}, quartiles of {n} pairs)')

def score_files(i, folder, n):
    "Case number `i`, read from its two files."
    mask, truth = (read_mask(Path(folder)/f'{i % n}_{kind}.png') for kind in ('mask', 'truth'))
    return score_case(mask, truth, 0.15)['hd95_mm']

def scale(cases, workers, different=50):
    with tempfile.TemporaryDirectory() as d:
        for i in range(different):
            for kind, m in zip(('mask', 'truth'), simulate_pair(i)):
                save_png(Path(d)/f'{i}_{kind}.png', m > 0)
        f, found, first = partial(score_files, folder=d, n=different), None, None
        for w in range(1, workers + 1):
            t, out = timed(pmap, (f, range(cases), w), time.perf_counter)
            if found not in (None, out):
                raise SystemExit('the number of workers changed the figures')
            found, first = out, first or t
            print(
                f'{cases} cases with {w} worker{"s"*(w > 1)}: {t:.1f} s, {1000*t/cases:.1f} ms a '
                f'case, {first/t:.2f} times the speed of one'
            )

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--pairs', type=int, default=50,
                   help='pairs to compare tools on (default: %(default)s)')
    p.add_argument('--cases', type=int, default=1000, help='cases to score (default: %(default)s)')
    p.add_argument('--workers', type=int, default=min(2, n_cores()),
                   help='worker processes, from 1 to this many (default: %(default)s)')
    a = p.parse_known_args()[0]
    compare_tools(a.pairs)
    scale(a.cases, a.workers)

if __name__ == '__main__': main()
