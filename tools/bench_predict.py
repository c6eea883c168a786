"""Time of a picture, from decoded array to heatmap array, and peak memory: our Predictor beside
the baseline network, by torch and by onnxruntime.

    python tools/bench_predict.py [--weights RUN ...] [--flips] [--turns N] [--threads N]
    [--runtimes torch onnxruntime] [--contiguous]

The picture: simulated, 540x800 uint8. Ours: `Predictor()` with the weights that ship (or a run
folder; several: an ensemble), everything between the two arrays included. The baseline: the
same-padding U-Net of widths 64 to 1024 without normalisation, one output, 31,030,593 parameters,
random weights, on the picture padded to
800x544, then the sigmoid: no resampling. Each of the four is a fresh process that makes nothing
else; they wait while another works. In each turn every process predicts one picture, in an order
that changes from turn to turn; ours is compared with the baseline of the same runtime and turn.
Both runtimes get the same number of threads within an operation, both networks channels-last
memory in torch (--contiguous: the baseline contiguous memory). The files for onnxruntime are
written before, by a process of their own. Peak memory is the largest resident set of the process,
libraries included.
"""
import argparse, json, os, subprocess, sys, tempfile, time, warnings
from pathlib import Path

SIZE, CANVAS, PARAMETERS = (540, 800), (544, 800), 31_030_593
warnings.filterwarnings('ignore')

def get_args():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        '--weights', nargs='+', metavar='RUN',
        help='a run folder or weights file; several are averaged (default: the weights that ship)')
    p.add_argument('--flips', action='store_true', help='average with the mirrored picture')
    p.add_argument('--turns', type=int, default=7, help='turns (default: %(default)s)')
    p.add_argument(
        '--threads', type=int, default=len(os.sched_getaffinity(0)) if hasattr(
            os, 'sched_getaffinity') else os.cpu_count(),
        help='threads within an operation (default: the cores of this process, %(default)s)')
    p.add_argument('--runtimes', nargs='+', choices=('torch', 'onnxruntime'),
                   default=('torch', 'onnxruntime'), help='(default: both)')
    p.add_argument('--contiguous', action='store_true',
                   help='contiguous memory for the baseline by torch')
    # one of the processes
    p.add_argument('--serve', nargs=3, metavar=('NAME', 'RUNTIME', 'FOLDER'),
                   help=argparse.SUPPRESS)
    p.add_argument('--export', metavar='FOLDER', help=argparse.SUPPRESS)
    return p.parse_known_args()[0]

def get_baseline():
    "The network that people run on this dataset."
    import torch
    from fetal_seg.unet import UNet, count_parameters
    torch.manual_seed(0)
    net = UNet(width=64, depth=4, norm='none').eval()
    if count_parameters(net) != PARAMETERS:
        raise SystemExit(
            f'the baseline has {count_parameters(net):,} parameters, not {PARAMETERS:,}')
    return net

def write_onnx(weights, folder):
    "All ONNX files."
    from fetal_seg.predict import export
    from fetal_seg.unet import export_onnx
    for i,w in enumerate(weights or [None]): export(w, Path(folder)/f'ours-{i}.onnx')
    export_onnx(get_baseline(), Path(folder)/'baseline.onnx', CANVAS)

def limit_threads(runtime, n):
    "The same number of threads within an operation for both runtimes."
    if runtime == 'torch':
        import torch
        return torch.set_num_threads(n)
    os.environ['OMP_NUM_THREADS'] = str(n)   # `load_onnx` keeps to it

def get_ours(runtime, weights, flips, folder):
    "From picture to heatmap, both arrays."
    from fetal_seg.predict import Predictor
    if runtime == 'onnxruntime': weights = sorted(map(str, Path(folder).glob('ours-*.onnx')))
    return Predictor(weights[0] if weights and len(weights) == 1 else weights, flips=flips)

def get_theirs(runtime, folder, contiguous):
    "The same for the baseline."
    import numpy as np
    if runtime == 'torch':
        import torch
        layout = torch.contiguous_format if contiguous else torch.channels_last
        net = get_baseline().to(memory_format=layout)
        def logits(x):
            with torch.inference_mode():
                return net(torch.from_numpy(x).contiguous(memory_format=layout)).numpy()
    else:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ['OMP_NUM_THREADS'])
        run = onnxruntime.InferenceSession(str(Path(folder)/'baseline.onnx'), options,
                                           providers=['CPUExecutionProvider']).run
        logits = lambda x: run(None, {'picture': x})[0]
    top = (CANVAS[0] - SIZE[0])//2
    def predict(img):
        x = np.pad(img, ((top, CANVAS[0]-SIZE[0]-top), (0, 0)))[None,None]*np.float32(1/255)
        return (1/(1 + np.exp(-logits(x)[0,0,top:top+SIZE[0]]))).astype(np.float32)
    return predict

def peak_memory():
    "The largest resident set of this process, MiB."
    # ru_maxrss would count the parent's
    try:
        return next(
            int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))/2**10
    except OSError:
        import resource
        return resource.getrusage(
            resource.RUSAGE_SELF).ru_maxrss/(2**20 if sys.platform == 'darwin' else 2**10)

def serve(name, runtime, folder, a):
    """Predict a picture for each line that comes in; tell the seconds, and in the end the peak
    memory."""
    import numpy as np
    img = np.load(Path(folder)/'picture.npy')
    limit_threads(runtime, a.threads)
    predict = get_ours(runtime, a.weights, a.flips, folder) if name == 'ours' else get_theirs(
        runtime, folder, a.contiguous)
    for line in sys.stdin:
        t = time.perf_counter()
        h = predict(img)
        t = time.perf_counter() - t
        if h.shape != SIZE or h.dtype != np.float32 or not (0 <= h.min() <= h.max() <= 1):
            raise SystemExit(f'no heatmap: {h.shape} {h.dtype}')
        print(json.dumps(dict(seconds=t, peak=peak_memory(), torch='torch' in sys.modules)),
              flush=True)

class Server:
    "One of the processes."
    def __init__(self, name, runtime, folder, argv):
        self.runtime, self.name = runtime, name
        self.job = subprocess.Popen(
            [sys.executable, __file__, *argv, '--serve', name, runtime,
             str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told = []
        self.first = self()['seconds']   # with the allocation of all buffers
        self.told.clear()
    def __call__(self):
        self.job.stdin.write('go\n'); self.job.stdin.flush()
        line = self.job.stdout.readline()
        if not line: raise SystemExit(f'{self.name} by {self.runtime} ended; its message is above')
        self.told.append(json.loads(line))
        return self.told[-1]
    def close(self):
        self.job.stdin.close()
        self.job.wait()
    def column(self, k): return [t[k] for t in self.told]

def measure(a, folder):
    "The processes, after all turns."
    import numpy as np
    from fetal_seg.phantom import simulate
    np.save(folder/'picture.npy', simulate(3, shape=SIZE)[0])
    if 'onnxruntime' in a.runtimes and subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], '--export',
         str(folder)], stdout=subprocess.DEVNULL).returncode:
        raise SystemExit('the ONNX files could not be written')
    servers = [Server(n, r, folder, sys.argv[1:]) for r in a.runtimes for n in ('ours', 'baseline')]
    try:
        for i in range(a.turns):
            for s in (servers if i % 2 else servers[::-1]): s()
    finally:
        for s in servers: s.close()
    return servers

def main():
    a = get_args()
    if a.serve: return serve(*a.serve, a)
    if a.export: return write_onnx(a.weights, a.export)
    import numpy as np
    from fetal_seg.core import InputError
    from fetal_seg.predict import find_weights
    try: files = [find_weights(w) for w in a.weights or [None]]
    except InputError as e: raise SystemExit(f'{e} (name a run folder: --weights RUN)')
    with tempfile.TemporaryDirectory() as d: servers = measure(a, Path(d))
    print(f'{a.turns} turns; {SIZE[1]}x{SIZE[0]} uint8 to float32 heatmap, {a.threads} threads; '
          f'ours: {len(files)} network(s){", flips" if a.flips else ""}')
    print(f'{"":30}{"median ms":>10}{"quartiles":>20}{"first ms":>10}{"peak MiB":>10}   torch '
          f'imported')
    for s in servers:
        q = 1000*np.quantile(s.column('seconds'), [0.5, 0.25, 0.75])
        name, rest = f'{s.runtime}, {s.name}', f'{q[1]:.1f} to {q[2]:.1f}'
        torch = 'yes' if s.told[-1]['torch'] else 'no'
        print(f'{name:30}{q[0]:10.1f}{rest:>20}{1000*s.first:10.1f}'
              f'{max(s.column("peak")):10.0f}   {torch}')
    for ours, theirs in zip(servers[::2], servers[1::2]):
        r = np.quantile(
            np.array(theirs.column('seconds'))/ours.column('seconds'), [0.5, 0.25, 0.75])
        m = max(theirs.column('peak'))/max(ours.column('peak'))
        print(
            f'{ours.runtime}: the baseline takes {r[0]:.0f} times as long ({r[1]:.0f} to '
            f'{r[2]:.0f}, quartiles of {a.turns} pairs) and {m:.1f} times the memory'
        )

if __name__ == '__main__': main()
