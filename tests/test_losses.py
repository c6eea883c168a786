"Losses in bulk: against their definitions, in loops in float64, and against two other libraries."
import functools, math, pickle
import numpy as np
import pytest
import torch
from fetal_seg.losses import (LOSSES, BCEDiceLoss, bce_loss, border_weights, boundary_loss,
                              dice_loss, focal_loss, get_loss, mask_maps, signed_distance,
                              tversky_loss, weighted_bce_loss)

n_batches = 300

def random_mask(rng, kind, h, w):
    "Empty, full, scattered pixels, or up to three rectangles."
    m = np.zeros((h, w), np.int64)
    if kind == 'full': m[:] = 1
    if kind == 'scattered': m[:] = rng.random((h, w)) < rng.random()
    if kind == 'rectangles':
        for _ in range(rng.integers(1, 4)):
            (a, c), (b, d) = np.sort(rng.integers(0, h+1, 2)), np.sort(rng.integers(0, w+1, 2))
            m[a:c, b:d] = 1
    return m

@functools.cache
def batches():
    """(logits (B, 1, H, W) float32, masks (B, H, W)): a sixth of the batches all empty, a sixth all
    full; a third of the logits are +-100."""
    rng, kinds, out = np.random.default_rng(0), ('empty', 'full', 'scattered', 'rectangles'), []
    for i in range(n_batches):
        b, h, w = rng.integers(1, 4), *rng.integers(1, 12, 2)
        fixed = kinds[i % 6] if i % 6 < 2 else None
        t = np.stack([random_mask(rng, fixed or kinds[rng.integers(4)], h, w) for _ in range(b)])
        z = rng.normal(0, (1, 5)[i % 2], (b, h, w)).astype(np.float32)
        if i // 6 % 3 == 2: z = np.where(rng.random(z.shape) < 0.5, 100, -100).astype(np.float32)
        out.append((torch.tensor(z[:, None]), torch.tensor(t)))
    return out

def test_the_batches_are_what_they_should_be():
    empty, full = (sum((t == v).all().item() for _, t in batches()) for v in (0, 1))
    assert len(batches()) >= 200 and empty >= 40 and full >= 40
    assert sum((z.abs() == 100).all().item() for z, _ in batches()) >= 60

# The definitions, one case at a time: z and t are (H, W) arrays in float64.

def prob(z): return 1/(1 + np.exp(-z))
def counts(z, t): return (prob(z)*t).sum(), (prob(z)*(1-t)).sum(), (prob(-z)*t).sum()
def cross_entropy(z, t): return np.where(t == 1, np.log(1 + np.exp(-z)), np.log(1 + np.exp(z)))
def np_dice(z, t, s=1.): return 1 - (2*(prob(z)*t).sum() + s)/(prob(z).sum() + t.sum() + s)
def np_tversky(z, t, a, b, s=1.):
    tp, fp, fn = counts(z, t)
    return 1 - (tp + s/2)/(tp + a*fp + b*fn + s/2)
def np_bce(z, t, w=1.): return (np.where(t == 1, w, 1)*cross_entropy(z, t)).mean()
def np_focal(z, t, gamma, alpha=None):
    total = 0.
    for zi, ti in zip(z.flat, t.flat):
        wrong = prob(-zi) if ti else prob(zi)
        a = 1 if alpha is None else alpha if ti else 1-alpha
        total += a*wrong**gamma*float(cross_entropy(zi, ti))
    return total/z.size

def distance_to(points, shape):
    "From each pixel to the nearest of `points` (N, 2), by looking at all of them."
    at = np.stack(np.mgrid[:shape[0], :shape[1]], -1)
    return np.sqrt(((at[:, :, None] - np.asarray(points)[None, None])**2).sum(-1)).min(2)

def components(m):
    "The pixels of each component, by walking from neighbour to neighbour, corners included."
    left, out = set(map(tuple, np.argwhere(m))), []
    while left:
        todo, part = [left.pop()], []
        while todo:
            y, x = todo.pop()
            part.append((y, x))
            near = {(y+dy, x+dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        out.append(part)
    return out

def np_signed(m):
    if m.all() or not m.any(): return np.zeros(m.shape)
    return np.where(m == 1, 1 - distance_to(np.argwhere(m == 0), m.shape),
                    distance_to(np.argwhere(m), m.shape))

def np_weights(m, w0=10., sigma=5., share=None):
    n, fg = m.size, int(m.sum())
    w = np.ones(m.shape)
    if share is not None: w = np.where(m == 1, 0.5/share, 0.5/(1-share))
    elif 0 < fg < n: w = np.where(m == 1, n/(2*fg), n/(2*(n-fg)))
    parts = components(m)
    if len(parts) > 1:
        d1, d2 = np.sort([distance_to(p, m.shape) for p in parts], 0)[:2]
        w = w + np.where(m == 1, 0, w0*np.exp(-(d1+d2)**2/(2*sigma**2)))
    return w

def balance(t): return (t == 0).sum()/(t == 1).sum() if 0 < t.sum() < t.size else 1.
def mean_of(f):
    "The mean over cases of a case's own number."
    return lambda z, t: np.mean([f(*o) for o in zip(z, t)])
def pooled(f):
    "All cases as one picture."
    return lambda z, t: f(z.reshape(1, -1), t.reshape(1, -1))

DEFINITIONS = dict(
    dice=(dice_loss, mean_of(np_dice)),
    dice_smooth=(functools.partial(dice_loss, smooth=0.1),
                 mean_of(lambda z, t: np_dice(z, t, 0.1))),
    dice_batch=(functools.partial(dice_loss, batch=True), pooled(np_dice)),
    tversky=(tversky_loss, mean_of(lambda z, t: np_tversky(z, t, 0.3, 0.7))),
    tversky_other=(functools.partial(tversky_loss, alpha=1.5, beta=0.2, smooth=3.),
                   mean_of(lambda z, t: np_tversky(z, t, 1.5, 0.2, 3.))),
    bce=(bce_loss, mean_of(np_bce)),
    bce_weighted=(functools.partial(bce_loss, pos_weight=2.5),
                  mean_of(lambda z, t: np_bce(z, t, 2.5))),
    bce_balanced=(functools.partial(bce_loss, pos_weight='batch'),
                  lambda z, t: mean_of(lambda a, b: np_bce(a, b, balance(t)))(z, t)),
    bce_dice=(BCEDiceLoss(0.7, 1.3), mean_of(lambda z, t: 0.7*np_dice(z, t) + 1.3*np_bce(z, t))),
    baseline=(get_loss('baseline'),
              lambda z, t: mean_of(lambda a, b: np_dice(a, b) + 0.2*np_bce(a, b, balance(t)))
              (z, t)),
    focal=(focal_loss, mean_of(lambda z, t: np_focal(z, t, 2.))),
    focal_alpha=(functools.partial(focal_loss, gamma=0.5, alpha=0.25),
                 mean_of(lambda z, t: np_focal(z, t, 0.5, 0.25))),
    weighted=(weighted_bce_loss, mean_of(lambda z, t: (np_weights(t)*cross_entropy(z, t)).mean())),
    weighted_other=(functools.partial(weighted_bce_loss, w0=3., sigma=2., share=0.3),
                    mean_of(lambda z, t: (np_weights(t, 3., 2., 0.3)*cross_entropy(z, t)).mean())),
    boundary=(boundary_loss, mean_of(lambda z, t: (np_signed(t)*prob(z)).mean())),
    dice_boundary=(get_loss('dice_boundary'),
                   mean_of(lambda z, t: np_dice(z, t) + 0.01*(np_signed(t)*prob(z)).mean())),
)

def close(ours, theirs, eps=1e-5):
    "Within `eps`, of the value where that is above 1; finite both."
    ours, theirs = float(ours), float(theirs)
    return math.isfinite(ours) and abs(ours - theirs) <= eps*max(1., abs(theirs))

@pytest.mark.parametrize('name', DEFINITIONS)
def test_against_the_definition(name):
    f, definition = DEFINITIONS[name]
    for i, (z, t) in enumerate(batches()):
        expected = definition(z[:, 0].double().numpy(), t.numpy())
        assert close(f(z, t), expected), (i, f(z, t).item(), expected)
        assert close(f(z.double(), t), expected, 1e-9), (i, f(z.double(), t).item(), expected)
        assert close(f(z, t[:, None], reduction='none').mean(), expected), i

def test_distance_and_weight_maps():
    for _, t in batches():
        for m in t.numpy():
            np.testing.assert_allclose(signed_distance(m), np_signed(m), rtol=0, atol=1e-9)
            np.testing.assert_allclose(border_weights(m), np_weights(m), rtol=0, atol=1e-9)

@pytest.mark.parametrize('name', ['dice', 'tversky', 'bce', 'focal', 'weighted', 'boundary'])
def test_gradient_is_that_of_double_precision(name):
    f = DEFINITIONS[name][0]
    for z, t in batches():
        a, b = z.clone().requires_grad_(), z.double().requires_grad_()
        f(a, t).backward(); f(b, t).backward()
        assert torch.isfinite(a.grad).all()
        assert (a.grad - b.grad).abs().max() <= 1e-5*max(1, b.grad.abs().max())

def test_weighted_is_the_papers_softmax_of_two_logits():
    "Equation 1 with two classes, by torch's own cross-entropy."
    rng = torch.Generator().manual_seed(0)
    for z, t in batches():
        z, a0 = z.double(), torch.randn(z.shape, generator=rng, dtype=torch.float64)
        w = torch.tensor(np.stack([np_weights(m) for m in t.numpy()]))
        two = torch.cat([a0, a0 + z], 1)
        theirs = (w*torch.nn.functional.cross_entropy(two, t, reduction='none')).mean()
        assert close(weighted_bce_loss(z, t), theirs, 1e-9)
        assert close(weighted_bce_loss(z, t, w), theirs, 1e-9)

# Behaviour that other rooms rely on

class Picture(torch.Tensor): "A subclass, as fastai's TensorImage and TensorMask are."

@pytest.mark.parametrize('name', LOSSES)
def test_subclasses_and_pickles(name):
    z, t = batches()[4]
    loss = get_loss(name)
    value = loss(z.as_subclass(Picture), t.as_subclass(Picture))
    assert type(value) is torch.Tensor and value == loss(z, t) == loss(z, t[:, None].bool())
    assert pickle.loads(pickle.dumps(loss))(z, t) == value
    assert loss(z, t, reduction='none').shape == (len(z),)

def test_maps_follow_the_shape_of_the_masks():
    t = batches()[4][1]
    for o in (t, t[:, None], t.float(), t.to(torch.bfloat16), t.bool()):
        maps = mask_maps(signed_distance, o)
        assert maps.shape == o.shape and maps.dtype == torch.float64
        np.testing.assert_array_equal(
            maps.reshape(t.shape).numpy(), np.stack([signed_distance(m) for m in t.numpy()]))

@pytest.mark.cuda
@pytest.mark.parametrize('name', LOSSES)
def test_the_same_on_a_gpu(name):
    for z, t in batches()[:60]:
        assert close(get_loss(name)(z.cuda(), t.cuda()), get_loss(name)(z, t))
        half = z.cuda().half().requires_grad_()
        get_loss(name)(half, t.cuda()).backward()
        assert torch.isfinite(half.grad).all()

# Written by others

def each_case(f, ours, theirs):
    "Compare case by case, empty masks left out; how many there were, and how many of them full."
    n, full = 0, 0
    for z, t in batches():
        for i in range(len(t)):
            if not t[i].any(): continue
            n, full = n + 1, full + bool(t[i].all())
            assert close(ours(z[i:i+1], t[i:i+1]), theirs(z[i:i+1], t[i:i+1, None])), (z[i], t[i])
    assert n >= 200 and full >= 40, (n, full)

def monai_oracles():
    losses = pytest.importorskip('monai.losses', reason='monai is not installed')
    kw = dict(sigmoid=True)
    return dict(
        dice=(dice_loss, losses.DiceLoss(**kw, smooth_nr=1., smooth_dr=1.)),
        dice_batch=(functools.partial(dice_loss, batch=True),
                    losses.DiceLoss(**kw, smooth_nr=1., smooth_dr=1., batch=True)),
        tversky=(tversky_loss,
                 losses.TverskyLoss(**kw, alpha=0.3, beta=0.7, smooth_nr=0.5, smooth_dr=0.5)),
        bce_dice=(BCEDiceLoss(w_bce=0.2),
                  losses.DiceCELoss(**kw, smooth_nr=1., smooth_dr=1., lambda_ce=0.2)),
        focal=(focal_loss, losses.FocalLoss(gamma=2.)),
        focal_alpha=(functools.partial(focal_loss, gamma=1.5, alpha=0.25),
                     losses.FocalLoss(gamma=1.5, alpha=0.25)),
        boundary=(boundary_loss, losses.BoundaryLoss(**kw)))

@pytest.mark.parametrize(
    'name', ['dice', 'dice_batch', 'tversky', 'bce_dice', 'focal', 'focal_alpha', 'boundary'])
def test_against_monai(name):
    ours, theirs = monai_oracles()[name]
    for i,(z,t) in enumerate(batches()):
        a, b = ours(z, t), theirs(z, t[:,None].float())
        assert close(a, b), (i, a, b)

def smp_oracles():
    losses = pytest.importorskip('segmentation_models_pytorch.losses',
                                 reason='segmentation-models-pytorch is not installed')
    return dict(
        dice=(dice_loss, losses.DiceLoss('binary', smooth=0.5)),
        tversky=(tversky_loss, losses.TverskyLoss('binary', smooth=0.5, alpha=0.3, beta=0.7)),
        dice_batch=(functools.partial(dice_loss, batch=True),
                    losses.DiceLoss('binary',
                                    smooth=0.5)), bce=(bce_loss, losses.SoftBCEWithLogitsLoss()),
        bce_weighted=(functools.partial(bce_loss, pos_weight=2.5),
                      losses.SoftBCEWithLogitsLoss(pos_weight=torch.tensor(2.5))),
        focal=(focal_loss, losses.FocalLoss('binary', gamma=2.)),
        focal_alpha=(functools.partial(focal_loss, gamma=1.5,
                                       alpha=0.25), losses.FocalLoss('binary', gamma=1.5,
                                                                     alpha=0.25)))

@pytest.mark.parametrize('name', ['dice', 'tversky'])
def test_against_segmentation_models(name):
    # theirs counts a batch together, and sets an empty mask to 0
    each_case(name, *smp_oracles()[name])

@pytest.mark.parametrize('name', ['dice_batch', 'bce', 'bce_weighted', 'focal', 'focal_alpha'])
def test_against_segmentation_models_batch(name):
    (ours, theirs), n = smp_oracles()[name], 0
    for i, (z, t) in enumerate(batches()):
        if name == 'dice_batch' and not t.any(): continue
        n += 1
        assert close(ours(z, t),
                     theirs(z, t[:, None].float())), (i, ours(z, t), theirs(z, t[:, None].float()))
    assert n >= 200
