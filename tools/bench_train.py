"""Training steps per second of our U-Net beside MONAI's BasicUNet of the same widths, and
segmentation-models-pytorch's U-Net with resnet18.

    python tools/bench_train.py [--turns N] [--steps N] [--threads N] [--bs N] [--size H W]
    [--memory channels_last|contiguous]

A step: forward, loss (BCE + Dice), backward, an AdamW step. All networks see the same batches
(simulated pictures, 8 x 1 x 176 x 256), the same loss, the same optimizer, the same number of
threads, and the same memory format, for weights and batches: channels_last unless told otherwise,
which is what `train` uses. BasicUNet comes twice: with batch norm and ReLU, as ours has them, and
with its own defaults (instance norm, LeakyReLU). In each turn every network makes some steps, in
an order that changes from turn to turn; each is then compared with ours of the same turn. The
medians are printed, with the quartiles of the ratios.
"""
import argparse, time, warnings
warnings.filterwarnings('ignore')

def get_args():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--turns', type=int, default=9, help='turns (default: %(default)s)')
    p.add_argument('--steps', type=int, default=4,
                   help='steps of each network in a turn (default: %(default)s)')
    p.add_argument('--threads', type=int, help="torch's threads (default: torch's own choice)")
    p.add_argument('--bs', type=int, default=8, help='pictures in a batch (default: %(default)s)')
    p.add_argument('--size', type=int, nargs=2, default=(176, 256), metavar=('H', 'W'),
                   help='of a picture (default: 176 256)')
    p.add_argument('--memory', choices=('channels_last', 'contiguous'), default='channels_last',
                   help='memory format of weights and batches (default: %(default)s)')
    return p.parse_known_args()[0]

def get_networks():
    "Name → network; ours first."
    from monai.networks.nets import BasicUNet
    from segmentation_models_pytorch import Unet
    from fetal_seg.unet import UNet
    widths = dict(spatial_dims=2, in_channels=1, out_channels=1,
                  features=(16, 32, 64, 128, 256, 16))
    return {'fetal_seg UNet, width 16, depth 4': UNet(width=16, depth=4, norm='batch'),
            'MONAI BasicUNet, batch norm, ReLU': BasicUNet(**widths, norm='batch', act='relu'),
            'MONAI BasicUNet, its defaults': BasicUNet(**widths),
            'smp Unet, resnet18': Unet('resnet18', encoder_weights=None, in_channels=1, classes=1)}

def get_batches(n, bs, size, layout):
    "Simulated pictures and their masks at the network's size."
    import numpy as np, torch
    from fetal_seg.phantom import simulate
    pairs = [simulate(i, shape=size)[:2] for i in range(n*bs)]
    x = torch.from_numpy(np.stack([p[0] for p in pairs])[:,None].astype('float32')/255)
    y = torch.from_numpy(np.stack([p[1] > 0 for p in pairs]).astype('int64'))
    return [(x[i*bs:(i+1)*bs].contiguous(memory_format=layout), y[i*bs:(i+1)*bs]) for i in range(n)]

def flops(net, size):
    "Multiplications and additions of one forward pass of one picture, counted by torch."
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as count: net(torch.zeros(1, 1, *size))
    net.train()
    return count.get_total_flops()

class Trainer:
    "A network with its optimizer; `turn` makes steps and says how many a second."
    def __init__(self, net, batches, loss, layout):
        import torch
        self.net, self.batches, self.loss, self.i = net.to(
            memory_format=layout).train(), batches, loss, 0
        self.opt = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.01)
        self.turn(2)   # the first steps make the buffers
    def turn(self, steps):
        t = time.perf_counter()
        for _ in range(steps):
            x, y = self.batches[self.i % len(self.batches)]
            self.i += 1
            self.loss(self.net(x), y).backward()
            self.opt.step()
            self.opt.zero_grad()
        return steps/(time.perf_counter() - t)

def main():
    a = get_args()
    import numpy as np, torch
    from fetal_seg.losses import BCEDiceLoss
    from fetal_seg.unet import count_flops, count_parameters
    if a.threads: torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if a.memory == 'channels_last' else torch.contiguous_format
    nets, batches = get_networks(), get_batches(3, a.bs, tuple(a.size), layout)
    cost = {k: (count_parameters(n), flops(n, a.size)) for k,n in nets.items()}
    ours = next(iter(nets))
    if cost[ours][1] != count_flops(nets[ours], a.size):
        raise SystemExit('count_flops and torch must count the same')
    trainers = {k: Trainer(n, batches, BCEDiceLoss(), layout) for k,n in nets.items()}
    names, speeds = list(trainers), {k: [] for k in trainers}
    for i in range(a.turns):
        k = i % len(names)
        order = names[k:] + names[:k]
        for n in (order if i % 2 else order[::-1]): speeds[n].append(trainers[n].turn(a.steps))
    print(f'{a.turns} turns of {a.steps} steps; {a.bs} x 1 x {a.size[0]} x {a.size[1]}, '
          f'{a.memory} for all, {torch.get_num_threads()} threads, torch {torch.__version__}')
    print(f'{"network":36}{"parameters":>12}{"GFLOPs a picture":>18}{"steps/s":>10}   ours / it '
          f'(quartiles)')
    for n in names:
        r = np.quantile(np.array(speeds[ours])/speeds[n], [0.25, 0.5, 0.75])
        print(f'{n:36}{cost[n][0]:12,}{cost[n][1]/1e9:18.2f}{np.median(speeds[n]):10.3f}' +
              ('' if n == ours else f'   {r[1]:.2f} ({r[0]:.2f} to {r[2]:.2f})'))

if __name__ == '__main__': main()
