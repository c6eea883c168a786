"""The throughput of `prepare` beside the bare cost of the same decoding and encoding (`make
bench`).

    python tools/bench_prepare.py [--raw DIR] [--workers N] [--repeats N]

Bare: on as many processes, Pillow decodes each image and annotation from disk and writes three
PNGs of the shapes that `prepare` writes (image, mask, full mask) at the same compression level.
The image written is the one decoded, set on the canvas or cropped to it, not resized; the masks
are an ellipse that each process draws once. `prepare` does all the rest as well: pairing, digests,
masks, geometry, exams, splits, the commit. Both include the start of their processes. The two take
turns, and each figure is a median. Where other programs use the machine, the ratio of processor
time (all processes together) is the steadier one. Pictures: --raw, else the folder that
FETAL_SEG_DATA names, else 120 simulated ones.
"""
import argparse, os, resource, shutil, statistics, tempfile, time
from functools import lru_cache, partial
from math import cos, pi, sin
from pathlib import Path
from PIL import Image, ImageDraw

@lru_cache
def ellipse(h, w):
    "A mask that covers 29 % of a picture."
    turn = [(0.28*w*cos(k*pi/90), 0.33*h*sin(k*pi/90)) for k in range(180)]
    img = Image.new('L', (w,h))
    ImageDraw.Draw(img).polygon([(w/2 + x*cos(0.35) - y*sin(0.35), h/2 + x*sin(0.35) + y*cos(0.35))
                                 for x, y in turn], fill=255)
    return img

def bare(pair, out, size):
    "Decode a pair and encode three pictures, and nothing else."
    image, annotation = (Image.open(p).convert('L') for p in pair)
    canvas = Image.new('L', size[::-1])
    canvas.paste(image, ((size[1]-image.width)//2, (size[0]-image.height)//2))
    name = Path(pair[0]).stem
    for kind, img in (('images', canvas), ('masks', ellipse(*size)),
                      ('full_masks', ellipse(image.height, image.width))):
        img.save(f'{out}/{kind}-{name}.png', compress_level=1)

def clocks():
    "Seconds of the wall clock, and of processor time of this process and its ended children."
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used)

def timed(f, *args, **kw):
    "How long a call takes by both clocks."
    start = clocks()
    f(*args, **kw)
    return [b - a for a,b in zip(start, clocks())]

def compare(raw, pairs, size, workers, repeats, tmp):
    "Print one line: both times a case, their ratio."
    from fetal_seg.core import pmap
    from fetal_seg.preprocess import prepare
    times = []
    for _ in range(repeats):
        for d in ('bare', 'prepared'): shutil.rmtree(tmp/d, ignore_errors=True)
        (tmp/'bare').mkdir()
        times.append((timed(pmap, partial(bare, out=str(tmp/'bare'), size=size), pairs,
                            workers), timed(prepare, raw, tmp/'prepared', size, workers=workers)))
    again = statistics.median(
        timed(prepare, raw, tmp/'prepared', size, workers=workers)[0] for _ in range(3))
    ms = [statistics.median(t[k][0] for t in times)/len(pairs)*1000 for k in (0, 1)]
    wall, cpu = (sorted(p[k]/b[k] for b,p in times) for k in (0, 1))
    print(f'{size[1]}x{size[0]}: prepare {ms[1]:.1f} ms a case, bare {ms[0]:.1f} ms: ratio '
          f'{statistics.median(wall):.2f} ({wall[0]:.2f} to {wall[-1]:.2f} in {repeats} turns); '
          f'of processor time {statistics.median(cpu):.2f} ({cpu[0]:.2f} to {cpu[-1]:.2f}); a '
          f'second run, with nothing to do: {again/len(pairs)*1000:.1f} ms a case', flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--raw', default=os.environ.get('FETAL_SEG_DATA'),
                   help='a raw folder; default: FETAL_SEG_DATA, else simulated pictures')
    p.add_argument('--workers', type=int, default=2, help='processes (default 2)')
    p.add_argument('--repeats', type=int, default=5, help='turns (default 5)')
    a = p.parse_args()
    from fetal_seg.data import find_cases
    from fetal_seg.phantom import write_phantoms
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        raw = Path(a.raw) if a.raw else write_phantoms(tmp/'raw', n=120, workers=a.workers)
        cases, _ = find_cases(raw)
        pairs = [(str(raw/c.image), str(raw/c.annotation.split('|')[0]))
                 for c in cases.itertuples()]
        print(f'{len(pairs)} {"" if a.raw else "simulated "}cases, {a.workers} processes')
        for size in ((544,800), (176,256)): compare(raw, pairs, size, a.workers, a.repeats, tmp)

if __name__ == '__main__': main()
