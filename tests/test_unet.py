"The networks in bulk: sizes that fit, tiles, weights that travel, norms, other ways to run them."
import copy, io, itertools, sys
import numpy as np, pytest, torch
from torch import nn
from fetal_seg.core import InputError
from fetal_seg.unet import *

@pytest.fixture(autouse=True)
def seeded(): torch.manual_seed(0)

def random_biases(model):
    "Biases other than 0, so that a bias lost or applied twice is seen."
    for n,p in model.named_parameters():
        if n.endswith('bias'): nn.init.normal_(p, 0, 0.1)
    return model

def same(a, b, tol=1e-4): torch.testing.assert_close(a, b, atol=tol, rtol=0)

# ---- sizes ----

def goes_through(n, depth):
    "The side that comes out when each layer is walked through, or None."
    for i in range(depth+1):
        n -= 4
        if n <= 0 or (i < depth and n % 2): return
        if i < depth: n //= 2
    for _ in range(depth): n = 2*n - 4
    return n if n > 0 else None

@pytest.mark.parametrize('depth', range(7))
def test_sizes_that_fit(depth):
    out = {n: goes_through(n, depth) for n in range(1, 2500)}
    good = np.array([n for n,o in out.items() if o])
    for n,o in out.items():
        assert fits(n, depth) == bool(o)
        if o: assert output_size(n, depth) == o == n - lost_pixels(depth)
    for n in range(-5, 1500):
        assert fitting_size(n, depth) == good[good >= n][0]
        assert abs(fitting_size(n, depth, nearest=True) - n) == np.abs(good - n).min()

@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_every_size_runs_or_names_one_that_does(depth):
    model = UNet2015(width=1, depth=depth).eval()
    least = fitting_size(1, depth)
    with torch.no_grad():
        for n in range(least-3, least+2**depth+2):
            x = torch.rand(1,1,n,least)
            if fits(n, depth):
                assert model(x).shape[-2:] == (output_size(n, depth), output_size(least, depth))
                continue
            with pytest.raises(InputError, match='nearest size that fits is') as e: model(x)
            w, h = map(int, str(e.value).split('fits is ')[1].split(',')[0].split('x'))
            model(torch.rand(1,1,h,w))

@pytest.mark.parametrize('x, found', [(torch.rand(1, 188, 188), 'shape (1, 188, 188) of float32'),
                                      (torch.rand(1, 3, 188, 188), 'shape (1, 3, 188, 188)'),
                                      (torch.zeros(1, 1, 188, 188, dtype=torch.uint8), 'of uint8'),
                                      (torch.zeros(1, 1, 188, 188, dtype=torch.long), 'of int64')])
@pytest.mark.parametrize('make', [UNet, UNet2015])
def test_what_is_no_batch_of_pictures(make, x, found):
    with pytest.raises(InputError) as e: make(width=1)(x)
    assert found in str(e.value) and 'give floats in [0, 1] of shape (B, 1, H, W)' in str(e.value)

@pytest.mark.parametrize('kw, found', [(dict(norm='layer'), "'layer' is not known"),
                                       (dict(width=0), '0 and 4'), (dict(depth=-1), '16 and -1')])
def test_arguments_that_are_wrong(kw, found):
    with pytest.raises(InputError, match=found): UNet(**kw)

# ---- overlap-tile ----

def reflected(model, x):
    "One pass over a picture mirrored by numpy, so large that all of it comes out."
    depth = model.config['depth']
    edge = lost_pixels(depth)//2
    pads = [(edge, fitting_size(n + 2*edge, depth) - n - edge) for n in x.shape[-2:]]
    big = torch.from_numpy(np.pad(x.numpy(), [(0,0),(0,0),*pads], mode='reflect'))
    with torch.no_grad(): return model(big)[..., :x.shape[-2], :x.shape[-1]]

@pytest.fixture(scope='module')
def deep():
    torch.manual_seed(0)
    return random_biases(UNet2015(width=3)).eval()

@pytest.fixture(scope='module')
def shallow():
    torch.manual_seed(0)
    return random_biases(UNet2015(c_in=2, n_classes=3, width=3, depth=2)).eval()

sizes = [(1, 1), (1, 40), (2, 2), (3, 200), (67, 67), (68, 68), (69, 68), (84, 85), (92, 93),
         (93, 92), (131, 133), (132, 132), (133, 131), (148, 77), (211, 150)]

@pytest.mark.parametrize('h, w', sizes)
@pytest.mark.parametrize('tile', [204, 252])
def test_tiles_equal_one_pass(deep, h, w, tile):
    x = torch.rand(1,1,h,w)
    y = predict_tiles(deep, x, tile)
    assert y.shape == (1,2,h,w) and y.dtype == torch.float32 and not y.requires_grad
    same(y, reflected(deep, x))

def test_tiles_of_every_size_around_a_tile(shallow):
    "Depth 2 loses 40 pixels and pools in fours: sizes from 1 to 60, tiles up to the whole."
    tiles = [n for n in range(41, 105) if fits(n, 2) and output_size(n, 2) >= 4]
    for h in range(1, 61):
        x = torch.rand(1,2,h,61-h)
        ref = reflected(shallow, x)
        for tile in tiles[::3]: same(predict_tiles(shallow, x, tile), ref)

@pytest.mark.parametrize('depth', [0, 1, 2, 3])
def test_tiles_at_other_depths(depth):
    model = random_biases(UNet2015(width=2, depth=depth)).eval()
    for tile in [n for n in range(lost_pixels(depth)+1, lost_pixels(depth)+40) if fits(n, depth)]:
        if output_size(tile, depth) < 2**depth: continue
        x = torch.rand(2,1,37,50)
        same(predict_tiles(model, x, tile), reflected(model, x))

def test_tiles_random(deep):
    rng = np.random.default_rng(0)
    for _ in range(12):
        h, w, tile = *rng.integers(1, 260, 2), rng.choice([204, 220, 252, 284])
        x = torch.rand(1,1,int(h),int(w))
        same(predict_tiles(deep, x, int(tile)), reflected(deep, x))

def test_a_moved_border_moves_nothing_inside(deep):
    "A pixel that sees nothing of the border stays when the border moves by a multiple of 16."
    far = max(max(at-first, last-at) for at in range(16) for first,last in [field_of_logit(at)])
    x = torch.rand(1,1,260,276)
    a, b = predict_tiles(deep, x, 252), predict_tiles(deep, x[..., 16:, 32:], 252)
    same(a[..., 16+far:-far, 32+far:-far], b[..., far:-far, far:-far])
    assert (a[..., 16:16+far, 32+far:-far] - b[..., :far, far:-far]).abs().max() > 1e-2

def test_batches_and_types(deep):
    x = torch.rand(3,1,90,120)
    y = predict_tiles(deep, x, 252)
    for i in range(3): same(y[i:i+1], predict_tiles(deep, x[i:i+1], 252))
    double = predict_tiles(copy.deepcopy(deep).double(), x.double(), 252)
    assert double.dtype == torch.float64
    same(y, double.float())
    same(y, predict_tiles(deep, x.to(memory_format=torch.channels_last), 252))
    assert predict_tiles(deep, x[:0], 252).shape == (0,2,90,120)

def test_the_largest_tile_needed_is_taken(deep):
    seen = []
    hook = deep.register_forward_pre_hook(lambda m,a: seen.append(tuple(a[0].shape[-2:])))
    predict_tiles(deep, torch.rand(1,1,20,500))
    hook.remove()
    assert seen == [(204,572), (204,572)]

def test_tiles_that_cannot_be(deep):
    x = torch.rand(1,1,99,99)
    for tile in (500, 0, -3, 187):
        with pytest.raises(InputError, match='the nearest that fits is'):
            predict_tiles(deep, x, tile)
    with pytest.raises(InputError, match='take 204 or more'): predict_tiles(deep, x, 188)
    # one tile of 4 pixels needs no other
    same(predict_tiles(deep, x[..., :4, :4], 188), reflected(deep, x[..., :4, :4]))
    with pytest.raises(InputError, match='training mode'):
        predict_tiles(copy.deepcopy(deep).train(), x)

@pytest.mark.parametrize('size', range(1, 12))
def test_mirror_is_numpys_reflect(size):
    for before, after in itertools.product((0,1,5,23,60), repeat=2):
        assert np.array_equal(mirror(-before, before + size + after, size),
                              np.pad(np.arange(size), (before, after), mode='reflect'))

# ---- weights ----

configs = [
    dict(),
    dict(norm='group'),
    dict(norm='none'),
    dict(width=5, norm='group'),
    dict(c_in=3, c_out=4),
    dict(depth=0),
    dict(depth=5, width=2),
    dict(dropout=0.5),
    dict(width=12, norm='group', depth=2)
]

@pytest.mark.parametrize('kw', configs, ids=str)
def test_state_dict_round_trip(kw):
    kw = dict(width=4) | kw
    model = UNet(**kw)
    x = torch.rand(2, model.config['c_in'], 64, 70)
    for _ in range(2): model(x)                                      # moves the running statistics
    buf = io.BytesIO()
    torch.save(model.state_dict(), buf); buf.seek(0)
    torch.manual_seed(9)
    other = UNet(**model.config)
    other.load_state_dict(torch.load(buf, weights_only=True))
    assert torch.equal(model.eval()(x), other.eval()(x))

def test_state_dict_names_do_not_change():
    "Weights that were trained must be found again: every name and shape of the network that ships."
    names = list(UNet().state_dict())
    blocks = [f'{p}.{i}' for p,n in (('down', 5), ('up', 4), ('fuse', 4)) for i in range(n)]
    found = {'head' if n.startswith('head') else '.'.join(n.split('.')[:2]) for n in names}
    assert found == {*blocks, 'head'}
    assert len(names) == 9*(2 + 2*5) + 4*2 + 2
    assert 'down.0.0.weight' in names and 'down.0.4.running_var' in names
    assert UNet().state_dict()['up.0.weight'].shape == (256,128,2,2)
    assert UNet().state_dict()['fuse.0.0.weight'].shape == (128,256,3,3)

def test_safetensors_round_trip(tmp_path):
    from safetensors.torch import load_file, save_file
    for model in (UNet2015(width=2), UNet(width=2)):
        save_file(model.state_dict(), tmp_path/'m.safetensors')
        back = type(model)(**model.config)
        back.load_state_dict(load_file(tmp_path/'m.safetensors'))
        pairs = zip(model.state_dict().values(), back.state_dict().values())
        assert all(torch.equal(a, b) for a,b in pairs)

@pytest.mark.parametrize('make', [UNet, UNet2015])
def test_seed_decides_the_weights(make):
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in make(width=2).parameters()])
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))

@pytest.mark.parametrize('make', [UNet2015, UNet, lambda: UNet(width=64, norm='none')],
                         ids=['2015', 'ours', 'baseline'])
def test_initial_standard_deviations(make):
    for name,m in make().named_modules():
        if not isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)): continue
        # an up-convolution reads one pixel, and so does the head
        n = m.in_channels*(9 if m.kernel_size == (3,3) else 1)
        w = m.weight.detach()
        sd, count = (2/n)**0.5, w.numel()
        assert abs(w.std().item()/sd - 1) < 5/(2*count)**0.5, name
        assert abs(w.mean().item()) < 5*sd/count**0.5, name
        assert m.bias is None or not m.bias.any(), name

def test_parameter_counts():
    with torch.device('meta'):
        ours = UNet(width=64, norm='none', c_out=2)
        assert count_parameters(UNet2015()) == count_parameters(ours) == 31_030_658
        assert count_parameters(UNet(width=64, norm='none')) == 31_030_593
        assert UNet2015()(torch.rand(1,1,572,572)).shape == (1,2,388,388)

@pytest.mark.parametrize('c_in, n', [(1,1), (1,2), (3,4)])
def test_the_padded_network_is_the_unpadded_one_in_the_middle(c_in, n):
    a = random_biases(UNet2015(c_in, n, width=3)).eval()
    b = UNet(c_in, n, width=3, norm='none').eval()
    b.load_state_dict(a.state_dict())
    for h,w in ((188,188), (204,236)):
        x = torch.rand(2,c_in,h+20,w+20)
        with torch.no_grad(): same(a(x[..., 2:2+h, 2:2+w]), b(x)[..., 94:94+h-184, 94:94+w-184])

# ---- norms, gradients, sizes of the padded network ----

@pytest.mark.parametrize('make', [
    lambda: UNet(width=4), lambda: UNet(width=4, norm='group'), lambda: UNet(width=4, norm='none'),
    lambda: UNet(width=4, dropout=0.3), lambda: UNet2015(width=4),
    lambda: UNet2015(width=4, dropout=0.)
], ids=['batch', 'group', 'none', 'dropout', '2015', '2015 without dropout'])
def test_gradient_reaches_every_parameter(make):
    model = make()
    x = torch.rand(4,1,204,204)
    model(x).square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name

@pytest.mark.parametrize('width', range(1, 25))
def test_group_norm_of_any_width(width):
    model = UNet(width=width, norm='group', depth=1)
    assert all(m.num_groups <= 8 and m.num_channels % m.num_groups == 0
               for m in model.modules()
               if isinstance(m, nn.GroupNorm))
    assert model(torch.rand(1,1,16,16)).shape == (1,1,16,16)

@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('depth', [0, 1, 3, 4])
def test_any_size(norm, depth):
    model, k = UNet(width=16, depth=depth, norm=norm).eval(), 2**depth
    with torch.no_grad():
        for h,w in itertools.product((k, k+1, 2*k-1, 3*k+2), repeat=2):
            x = torch.rand(1,1,h,w)
            y = model(x)
            assert y.shape == x.shape and torch.isfinite(y).all()
            pads = (0, 0), (0, 0), (0, -h % k), (0, -w % k)
            by_hand = torch.from_numpy(np.pad(x.numpy(), pads, mode='edge'))
            same(y, model(by_hand)[..., :h, :w], 1e-5)
        if k > 1:
            with pytest.raises(InputError, match=f'each side needs at least {k} pixels'):
                model(torch.rand(1, 1, k - 1, 99))

@pytest.mark.parametrize('make, shape',
                         [(lambda: UNet(width=1), (1, 1, 16, 16)),
                          (lambda: UNet(width=1, depth=2), (1, 1, 4, 4)),
                          (lambda: UNet(width=4, depth=1, norm='group').eval(), (5, 1, 2, 2))])
def test_a_norm_of_one_value(make, shape):
    model, n = make(), shape[-1]
    with pytest.raises(InputError, match=f'one side needs at least {n+1} pixels'):
        model(torch.rand(shape))
    model(torch.rand(*shape[:3], n+1))
    if model.config['norm'] == 'batch':
        model(torch.rand(2, *shape[1:])), model.eval()(torch.rand(shape))

def test_group_and_no_norm_know_only_their_own_picture():
    x = torch.rand(3,1,32,48)
    for norm in ('none', 'group'):
        model = UNet(width=8, norm=norm)
        same(model(x)[:1], model(x[:1]), 1e-5)
    model = UNet(width=8)
    # in training, batch normalisation does
    assert (model(x)[:1] - model(x[:1])).abs().max() > 1e-2

def test_dropout_at_the_end_of_the_contracting_path():
    for model,channels in ((UNet(width=2, dropout=0.5), [32]), (UNet2015(width=2), [16,32])):
        seen = []
        model.drop.register_forward_hook(lambda m,i,o: seen.append(o.shape[1]))
        model(torch.rand(2,1,188,188))
        assert seen == channels

# ---- costs and what is seen ----

@pytest.mark.parametrize('model, size',
                         [(UNet(width=2), (64, 80)),
                          (UNet(width=3, norm='group', depth=2), (33, 47)),
                          (UNet(c_in=3, c_out=2, width=2, norm='none'), (17, 99)),
                          (UNet2015(width=2), (188, 220)),
                          (UNet2015(c_in=2, n_classes=5, width=3, depth=2), (44, 60))])
def test_flops_are_pytorchs(model, size):
    from torch.utils.flop_counter import FlopCounterMode
    before = copy.deepcopy(model.state_dict())
    table = layer_table(model, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, model.config['c_in'], *size))
    assert count_flops(model, size) == table.flops.sum() == counter.get_total_flops()
    total = sum(p.numel() for p in model.parameters())
    assert table.parameters.sum() == count_parameters(model) == total
    # counting changes nothing
    assert all(torch.equal(a, b) for a,b in zip(before.values(), model.state_dict().values()))
    assert not any(m._forward_hooks for m in model.modules())

def test_layer_table_leaves_no_hook_after_an_error():
    model = UNet(width=2)
    with pytest.raises(InputError): layer_table(model, (8,8))
    assert not any(m._forward_hooks for m in model.modules())
    model(torch.rand(1,1,16,32))

@pytest.mark.parametrize('depth', [0, 1, 2, 3])
def test_field_of_logit_by_gradient(depth):
    n = 4*lost_pixels(depth)//2 + 2**depth
    n += -n % 2**depth
    model = UNet(width=1, depth=depth, norm='none').double()
    model.pool = nn.AvgPool2d(2)
    for p in model.parameters(): nn.init.constant_(p, 0.2)
    x = torch.rand(1,1,2**depth,n, dtype=torch.double, requires_grad=True)
    y = model(x)
    mid = n//2 - n//2 % 2**depth
    for at in range(mid, mid+2**depth):
        g, = torch.autograd.grad(y[0,0,0,at], x, retain_graph=True)
        cols = g[0,0].abs().sum(0).nonzero().flatten()
        assert (cols[0], cols[-1]) == field_of_logit(at, depth)

# ---- other ways to run it ----

@pytest.mark.parametrize('norm', NORMS)
def test_channels_last(norm):
    model = UNet(width=8, norm=norm)
    x = torch.rand(2,1,50,66)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    xl = x.to(memory_format=torch.channels_last)
    # float32, training: PyTorch's norms round more coarsely in this order
    same(model(x), last(xl), 2e-3)
    if norm != 'group': same(model.eval()(x), last.eval()(xl))
    model, last = model.train().double(), last.train().double()
    a, b = model(x.double()), last(xl.double())
    same(a, b, 1e-9)
    a.square().mean().backward(); b.square().mean().backward()
    for p,q in zip(model.parameters(), last.parameters()): same(p.grad, q.grad.contiguous(), 1e-8)

@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('size', [(64,96), (50,67)])
def test_export_with_any_batch(norm, size):
    model = random_biases(UNet(width=4, norm=norm)).eval()
    program = torch.export.export(model, (torch.rand(2, 1, *size),),
                                  dynamic_shapes=[{0: torch.export.Dim('batch')}])
    buf = io.BytesIO()
    torch.export.save(program, buf); buf.seek(0)
    back = torch.export.load(buf).module()
    with torch.no_grad():
        for n in (1,2,7):
            x = torch.rand(n,1,*size)
            same(back(x), model(x))

@pytest.mark.parametrize('make, size', [(lambda: UNet(width=4), (64, 96)),
                                        (lambda: UNet(width=4, norm='group'), (50, 67)),
                                        (lambda: UNet(width=4, norm='none', c_out=2), (33, 40)),
                                        (lambda: UNet2015(width=2), (188, 204))],
                         ids=['batch', 'group, odd size', 'none', '2015'])
def test_onnx_equals_torch(make, size, tmp_path):
    ort = pytest.importorskip('onnxruntime'); pytest.importorskip('onnxscript')
    model = random_biases(make()).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, 0, 0.1)
            nn.init.uniform_(m.running_var, 0.5, 2)
    f = export_onnx(model, tmp_path/'model.onnx', size)
    # one file, nothing beside it
    assert [p.name for p in tmp_path.iterdir()] == ['model.onnx']
    data = f.read_bytes()
    for word in (b'.py', b'site-packages', str(tmp_path).encode()): assert word not in data
    session = ort.InferenceSession(data, providers=['CPUExecutionProvider'])
    (i,), (o,) = session.get_inputs(), session.get_outputs()
    assert (i.name, i.type, i.shape[1:]) == ('picture', 'tensor(float)', [1, *size])
    assert o.name == 'logits' and isinstance(i.shape[0], str)
    for n in (1,2,5):
        x = torch.rand(n,1,*size)
        got = session.run(None, {'picture': x.numpy()})[0]
        assert got.dtype == np.float32 and np.abs(got - model(x).detach().numpy()).max() < 1e-4

def test_onnx_needs_evaluation_mode_and_its_packages(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='training mode'):
        export_onnx(UNet(width=1), tmp_path/'model.onnx')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(InputError, match=r"fetal_seg\[onnx\]"):
        export_onnx(UNet(width=1).eval(), tmp_path/'model.onnx')
    assert not list(tmp_path.iterdir())

@pytest.mark.slow
def test_compiled_equals_eager():
    model = UNet(width=4)
    quick = torch.compile(copy.deepcopy(model))
    for n in (2,3):
        x = torch.rand(n,1,50,67)
        a, b = model(x), quick(x)
        same(a, b)
    a.square().mean().backward(); b.square().mean().backward()
    for p, q in zip(model.parameters(), quick.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-3)

@pytest.mark.slow
def test_the_full_network_of_the_paper():
    model = UNet2015().eval()
    with torch.no_grad(): assert model(torch.rand(1,1,572,572)).shape == (1,2,388,388)
    x = torch.rand(1,1,200,212)
    same(predict_tiles(model, x, 284), predict_tiles(model, x))

@pytest.mark.cuda
def test_cuda_equals_cpu():
    model, x = UNet2015(width=4).eval(), torch.rand(1,1,150,170)
    y = predict_tiles(model, x, 252)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.testing.assert_close(
        predict_tiles(model.cuda(), x.cuda(), 252).cpu(), y, atol=1e-3, rtol=1e-3)
