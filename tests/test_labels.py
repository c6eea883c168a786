"Masks as people write them: many shapes in every colour encoding, unchanged from file to score."
import json, warnings
from io import BytesIO
import numpy as np, pytest
from PIL import Image
from scipy import ndimage
from fetal_seg.core import InputError
from fetal_seg.eval import evaluate_folders
from fetal_seg.images import read_picture
from fetal_seg.labels import choose_region, read_annotation, read_labels, region_name
from fetal_seg.geometry import in_ellipse
from fetal_seg.preprocess import case_path, choose_mask, prepare, read_mask
from fetal_seg.verify import verify

SHAPE = (96, 128)
y, x = np.mgrid[:SHAPE[0], :SHAPE[1]].astype(float)

def ellipse(rng, border=False):
    "An ellipse, (row, column, a, b, angle): inside the picture, or cut by its border."
    a = rng.uniform(14, 30); b = a*rng.uniform(0.6, 1)
    rows, cols = ((4, 20), (30, 98)) if border else ((36, 60), (40, 88))
    row, col = rng.uniform(*rows), rng.uniform(*cols)
    return row, col, a, b, rng.uniform(0, np.pi)

def band(rng):
    r, c, radius, wide = (rng.uniform(*ab) for ab in ((40, 60), (50, 80), (20, 34), (2, 10)))
    low = rng.uniform(-180, 60)
    angle = np.degrees(np.arctan2(y-r, x-c))
    near = abs(np.hypot(y - r, x - c) - radius) <= wide/2
    return near & (angle >= low) & (angle <= low + rng.uniform(60, 330))

def bar(rng):
    t, u0, v0 = rng.uniform(0, np.pi), x - rng.uniform(50, 80), y - rng.uniform(36, 60)
    u, v = u0*np.cos(t) + v0*np.sin(t), v0*np.cos(t) - u0*np.sin(t)
    return (abs(u) < rng.uniform(15, 45)) & (abs(v) < rng.uniform(1, 8))

def ring(rng):
    r, c, d = rng.uniform(40, 60), rng.uniform(50, 80), rng.uniform(15, 32)
    distance = np.hypot(y-r, x-c)
    return (distance < d) & (distance > d*rng.uniform(0.3, 0.95))

def blobs(rng):
    "Freehand: a threshold of smooth noise, in any number of pieces."
    n = ndimage.gaussian_filter(rng.normal(size=SHAPE), rng.uniform(3, 9))
    return n > np.quantile(n, rng.uniform(0.6, 0.97))

def several(rng):
    return np.any([np.hypot(y-rng.uniform(8, 88), x-rng.uniform(8, 120)) < rng.uniform(2, 12)
                   for _ in range(rng.integers(2, 6))], 0)

def dot(rng):
    m = np.zeros(SHAPE, bool); m[rng.integers(96), rng.integers(128)] = True
    return m

def stray(rng): return in_ellipse(ellipse(rng), SHAPE) | (rng.random(SHAPE) < 0.002)
def cut(rng): return in_ellipse(ellipse(rng, border=True), SHAPE)
def none(rng): return np.zeros(SHAPE, bool)
def full(rng): return np.ones(SHAPE, bool)

SHAPES = (band, bar, ring, blobs, several, dot, stray, cut, none, full)

def palette(m, *colours):
    im = Image.fromarray(m.astype(np.uint8), 'P')
    im.putpalette([v for c in colours for v in c] + [0]*(768 - 3*len(colours)))
    return im

def layers(m, *values):
    return Image.fromarray(np.stack([m*np.uint8(v) for v in values], -1).astype(np.uint8))

CODES = {
    'grey.png': lambda m: Image.fromarray(m*np.uint8(255)), 'bit.png': lambda m: Image.fromarray(m),
    'one.png': lambda m: Image.fromarray(m*np.uint8(1)),
    'two.png': lambda m: Image.fromarray(m*np.uint8(2)),
    'deep.png': lambda m: Image.fromarray(m.astype(np.uint16)*65535),
    'voc.png': lambda m: palette(m, (0, 0, 0), (128, 0, 0)),
    'brown.png': lambda m: palette(m, (64, 32, 0), (0, 0, 0)),
    'green.png': lambda m: layers(m, 0, 255, 0), 'grey3.png': lambda m: layers(m, 255, 255, 255),
    'white.rgba.png': lambda m: layers(m, 255, 255, 255, 255),
    'black.rgba.png': lambda m: layers(m, 0, 0, 0, 255),
    'red.rgba.png': lambda m: layers(m, 255, 0, 0, 255),
    'grey.bmp': lambda m: Image.fromarray(m*np.uint8(255)), 'bit.bmp': lambda m: Image.fromarray(m),
    'palette.bmp': lambda m: palette(m, (0, 0, 0), (200, 0, 90)),
    'colour.bmp': lambda m: layers(m, 0, 0, 255),
    'grey.tif': lambda m: Image.fromarray(m*np.uint8(255)), 'bit.tif': lambda m: Image.fromarray(m),
    'int.tif': lambda m: Image.fromarray(m.astype(np.int32)),
    'float.tif': lambda m: Image.fromarray(m.astype(np.float32)),
    'grey.gif': lambda m: Image.fromarray(m*np.uint8(255)),
    'palette.gif': lambda m: palette(m, (0, 0, 0), (0, 200, 90)),
    'array.npy': None, 'bool.npy': None
}

def write(path, m, code):
    if code.endswith('.npy'): np.save(path, m if code.startswith('bool') else m.astype(np.int64))
    else: CODES[code](m).save(path)

def ambiguous(m, code):
    "Full masks that a code cannot hold: opaque black; a GIF drops unused entries of its palette."
    return m.all() and code in ('black.rgba.png', 'palette.gif')

@pytest.fixture(scope='module')
def zoo():
    "Name, mask and code of 330 files, seeded."
    out = []
    for k in range(330):
        rng = np.random.default_rng(k)
        shape, code = SHAPES[k % len(SHAPES)], list(CODES)[(k//len(SHAPES) + k) % len(CODES)]
        m = shape(rng)
        out.append((f'{shape.__name__}{k}', m, 'grey.png' if ambiguous(m, code) else code))
    assert len({c for *_,c in out}) == len(CODES)
    return out

@pytest.fixture(scope='module')
def folders(zoo, tmp_path_factory):
    "images/ and masks/ of the zoo."
    raw = tmp_path_factory.mktemp('zoo')
    for f in ('images', 'masks'): (raw/f).mkdir()
    for k,(name,m,code) in enumerate(zoo):
        grain = np.random.default_rng(1000+k).integers(20, 200, SHAPE).astype(np.uint8)
        Image.fromarray(grain).save(raw/'images'/f'{name}.png')
        write(raw/'masks'/f'{name}.{code.rpartition(".")[2]}', m, code)
    return raw

def test_prepared_masks_are_what_the_files_say(zoo, folders, tmp_path):
    "330 filled masks of ten shapes and 24 encodings, equal pixel for pixel at full size."
    # 24 encodings: their numbers cannot be compared
    with pytest.warns(UserWarning, match='come from several tools'):
        cases = prepare(folders, tmp_path/'prepared', size=SHAPE,
                        fractions=(0.8, 0.1, 0.1)).set_index('case', drop=False)
    about = json.loads((tmp_path/'prepared'/'prepare.json').read_text())
    assert about['annotation'] == 'filled' and len(cases) == len(zoo)
    for name, m, code in zoo:
        got = read_mask(case_path(tmp_path/'prepared', cases.loc[name], 'full_masks'))
        assert (got == m).all(), (name, code, int(got.sum()), int(m.sum()))

def test_a_folder_against_itself_is_perfect(zoo, folders):
    scores, problems = evaluate_folders(folders/'masks', folders/'masks')
    assert len(scores) == len(zoo) and problems.empty
    assert (scores.dice == 1).all() and (scores.hd95 == 0).all() and (scores.iou == 1).all()

def test_outlines_of_ellipses_declared_so_are_filled_within_a_stroke(tmp_path):
    "Strokes of 1 to 3 pixels, whole or cut by the border, one or several: the region is the truth."
    for k in range(120):
        rng = np.random.default_rng(k)
        e = ellipse(rng, border=k % 3 == 2)
        truth = in_ellipse(e, SHAPE)
        thick = int(rng.integers(1, 4))
        ann = truth & ~ndimage.binary_erosion(truth, iterations=thick, border_value=1)
        if k % 3 == 1:
            other = in_ellipse(
                (10, 12, 8, 7, 0), SHAPE) & ~ndimage.binary_dilation(truth, iterations=3)
            if other.sum() > 100:
                truth = truth | other
                ann |= other & ~ndimage.binary_erosion(other, iterations=1)
        mask, method, _ = choose_mask(ann, 'outline')
        wrong = mask ^ truth
        rim = ndimage.binary_dilation(ann, iterations=1)
        assert not (wrong & ~rim).any(), (k, method, int(wrong.sum()))

@pytest.mark.parametrize('code', [c for c in CODES if not c.endswith('.npy')])
def test_every_code_is_read_as_two_classes(code, tmp_path):
    m = in_ellipse((40, 60, 30, 20, 0.4), SHAPE)
    write(tmp_path/code, m, code)
    assert (read_annotation(tmp_path/code) == m).all()
    labels = read_labels(tmp_path/code)
    assert len(labels.names) == 1 and labels.values.shape == SHAPE

def test_several_classes_are_a_choice_that_is_named(tmp_path):
    f = tmp_path/'organs.png'
    a = np.zeros((6, 8), np.uint8); a[1:3] = 1; a[4:] = 2
    Image.fromarray(a).save(f)
    with pytest.raises(InputError, match='organs.png: 2 classes: 1 and 2; say which is the region: '
                       '--region 2, or --region any'):
        read_annotation(f)
    assert (read_annotation(f, region=2) == (a == 2)).all()
    assert (read_annotation(f, region='any') == (a > 0)).all()
    assert not read_annotation(f, region='5').any()
    colours = np.array([[0,0,0], [255,0,0], [0,0,255]], np.uint8)[a]
    Image.fromarray(colours).save(f)
    for name in ('#0000ff', '0,0,255', ' 0, 0, 255 '):
        assert (read_annotation(f, region=name) == (a == 2)).all()
    names = [region_name(r) for r in (None, 'any', 2, '#800000', '007')]
    assert names == [None, 'any', '2', '128,0,0', '7']

@pytest.mark.parametrize('values', [(38, 255), (1, 2), (100, 101)])
def test_two_classes_without_a_background_are_refused(values, tmp_path):
    f = tmp_path/'m.png'
    Image.fromarray(np.array([values]*3, np.uint8)).save(f)
    with pytest.raises(
            InputError,
            match=f'two classes, {values[0]} and {values[1]}, and none of them is 0 or black'):
        read_annotation(f)
    assert read_annotation(f, region=values[1]).tolist() == [[False, True]]*3

SOFT = {
    'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC,
    'lanczos': Image.Resampling.LANCZOS
}

@pytest.mark.parametrize('quality', [60, 75, 90, 100])
def test_a_jpeg_of_two_levels_is_cut_half_way(quality):
    "Also where it was saved again as PNG; as a filled mask and as a stroke."
    for k, shape in enumerate(
        (bar, band, ring, blobs, several, cut, none, full, bar, band, ring, blobs, several, cut)):
        m = shape(np.random.default_rng(k))
        for a in (m, m & ~ndimage.binary_erosion(m, iterations=2)):
            data = jpeg(a*np.uint8(255), quality)
            png = BytesIO(); Image.open(BytesIO(data)).save(png, 'PNG')
            for name,d in (('a.jpg', data), ('a.png', png.getvalue())):
                try: got = read_annotation(name, d)
                except InputError:
                    assert quality < 90 or name == 'a.png', (shape.__name__, quality)
                    continue  # told, not silent
                assert (got ^ a).sum() <= 0.02*a.sum(), (shape.__name__, name, quality)

def jpeg(a, quality):
    f = BytesIO()
    Image.fromarray(a).save(f, 'JPEG', quality=quality)
    return f.getvalue()

def test_most_jpegs_of_masks_can_be_read():
    read = 0
    for k in range(60):
        m = (blobs, several, cut, ring)[k % 4](np.random.default_rng(k))
        try: read += (read_annotation('a.jpg', jpeg(m*np.uint8(255), 75)) == m).mean() > 0.995
        except InputError: pass
    assert read >= 58

@pytest.mark.parametrize('how', SOFT)
@pytest.mark.parametrize('size', [(64, 48), (200, 150), (512, 384)])
def test_soft_edges_of_resampling_are_cut_half_way(how, size, tmp_path):
    m = in_ellipse((40, 60, 30, 20, 0.4), SHAPE) | in_ellipse((80, 110, 8, 6, 0), SHAPE)
    soft = np.asarray(Image.fromarray(m*np.uint8(255)).resize(size, SOFT[how]))
    for code in ('L', 'RGB', 'RGBA'):
        Image.fromarray(soft).convert(code).save(tmp_path/f'{code}.png')
        assert (read_annotation(tmp_path/f'{code}.png') == (soft >= 128)).all()
    assert soft.max() == 255 and len(np.unique(soft)) > 3

@pytest.mark.parametrize('level', [75, 85, 100, 128, 170])
def test_a_jpeg_of_classes_is_refused(level):
    said = 'a.jpg: a JPEG of three levels of grey or more .0, about .*save the labels as a PNG'
    for k in range(20):
        rng = np.random.default_rng(k)
        a = in_ellipse(ellipse(rng), SHAPE)*np.uint8(255)
        a[in_ellipse((rng.uniform(20, 70), rng.uniform(20, 100), rng.uniform(6, 14), 5.5, 1),
                     SHAPE)] = level
        for quality in (40, 75, 95):
            with pytest.raises(InputError, match=said):
                read_annotation('a.jpg', jpeg(a, quality))
    with pytest.raises(InputError, match='values reach from 0 to'):
        read_annotation('a.jpg', jpeg((a > 0)*np.uint8(1), 100))

@pytest.mark.parametrize('values', [(1, 2, 3), (1, 15, 255), (85, 170, 255), (50, 100, 150),
                                    (254, 128, 255)])
def test_exact_values_stay_classes(values, tmp_path):
    "Solid, and as thin strokes: soft edges are no excuse to lose a class."
    for thin in (False, True):
        a = np.zeros(SHAPE, np.uint8)
        for k,v in enumerate(values):
            m = in_ellipse((30 + 20*k, 24 + 38*k, 14, 11, 0), SHAPE)
            a[m & ~ndimage.binary_erosion(m) if thin else m] = v
        Image.fromarray(a).save(tmp_path/'a.png')
        with pytest.raises(InputError, match='a.png: 3 classes: '):
            read_annotation(tmp_path/'a.png')
        assert (read_annotation(tmp_path/'a.png', region=values[1]) == (a == values[1])).all()

@pytest.mark.parametrize('colour', [(0, 0, 0), (255, 255, 255), (200, 10, 10)])
def test_a_clear_layer_with_one_colour_below_is_empty(colour, tmp_path):
    a = np.zeros((*SHAPE, 4), np.uint8); a[..., :3] = colour
    Image.fromarray(a).save(tmp_path/'a.png')
    assert not read_annotation(tmp_path/'a.png').any()
    im = palette(np.zeros(SHAPE), colour, (0, 0, 0)); im.info['transparency'] = 0
    im.save(tmp_path/'p.png', transparency=0)
    assert not read_annotation(tmp_path/'p.png').any()

def test_a_clear_layer_with_paint_below_is_read_by_its_colours(tmp_path):
    m = in_ellipse((40, 60, 30, 20, 0.4), SHAPE)
    for value in ((255, 255, 255, 0), (0, 200, 0, 0)):
        layers(m, *value).save(tmp_path/'a.png')
        assert (read_annotation(tmp_path/'a.png') == m).all()
    a = np.zeros((*SHAPE, 4), np.uint8); a[5:20, :, 0] = a[40:60, :, 1] = 255
    Image.fromarray(a).save(tmp_path/'a.png')
    with pytest.raises(InputError, match='2 classes: 0,255,0 and 255,0,0'):
        read_annotation(tmp_path/'a.png')

def dataset(raw, *images):
    "images/ and masks/: one image of Pillow a mask."
    for f in ('images', 'masks'): (raw/f).mkdir(parents=True, exist_ok=True)
    for k,im in enumerate(images):
        Image.fromarray(np.random.default_rng(k).integers(0, 200, SHAPE).astype(np.uint8)).save(
            raw/'images'/f'{k}.png')
        im.save(raw/'masks'/f'{k}.png')
    return raw

REGION = in_ellipse((40, 60, 30, 20, 0.4), SHAPE)
def value(v): return Image.fromarray(REGION*np.uint8(v))

@pytest.mark.parametrize(
    'masks,said',
    [([value(1)]*4 + [value(2)]*3,
      '2 classes over the dataset, one a file: 1 in 4; 2 in 3; .*--region 2, or --region any'),
     ([value(128)]*4 + [value(255)]*3, '128 in 4; white in 3; .*--region 128'),
     ([layers(REGION, 255, 0, 0)]*4 + [layers(REGION, 0, 255, 0)]*3, '2 classes .*--region'),
     ([palette(REGION, (0, 0, 0), (255, 0, 0))]*3 +
      [palette(REGION*2, (0, 0, 0), (255, 0, 0), (0, 255, 0))]*4, '1 in 3; 2 in 4')])
def test_classes_spread_over_files_are_a_choice(masks, said, tmp_path):
    raw = dataset(tmp_path/'raw', *masks)
    with pytest.raises(InputError, match=said): prepare(raw, tmp_path/'p', size=SHAPE)
    found = verify(raw).findings
    assert len(found[(found.check == 'mixed_classes') & (found.severity == 'error')]) == 1
    assert (prepare(raw, tmp_path/'p', size=SHAPE, region='any').area > 0).all()
    assert 'mixed_classes' not in set(verify(raw, region='any').findings.check)

RED_ONE = palette(REGION, (0, 0, 0), (255, 0, 0))

@pytest.mark.parametrize('masks', [
    [value(1)]*4 + [value(255)]*3 + [Image.fromarray(REGION)]*2, [value(2)]*5,
    [RED_ONE]*3 + [palette(REGION, (9, 9, 9), (0, 255, 0))]*3, [value(2)]*4 + [value(0)]*3,
    [RED_ONE]*3 + [value(255)]*3])
def test_yes_written_in_two_ways_is_one_class(masks, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='The annotations')
        cases = prepare(dataset(tmp_path/'raw', *masks), tmp_path/'p', size=SHAPE)
    assert set(cases.area.round(6)) <= {0, round(float(REGION.mean()), 6)}
    assert 'classes' not in cases

def test_classes_are_compared_with_those_of_earlier_runs(tmp_path):
    "What was prepared before is not read again, and is remembered."
    raw = dataset(tmp_path/'raw', *[value(1)]*4)
    prepare(raw, tmp_path/'p', size=SHAPE)
    dataset(raw, *[value(1)]*4, value(2))
    with pytest.raises(InputError, match='1 in 4; 2 in 1'): prepare(raw, tmp_path/'p', size=SHAPE)

def test_what_stops_a_picture_stops_a_mask(tmp_path):
    "Cut short, empty, two pages, too large: the words of `read_picture`."
    good = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 2,
                                                      (40, 40)).astype(np.uint8)).save(good, 'PNG')
    pages = BytesIO()
    Image.new('P', (4, 4)).save(pages, 'TIFF', save_all=True,
                                append_images=[Image.new('P', (4, 4))])
    for data in (good.getvalue()[:-60], b'', b'no picture', pages.getvalue()):
        with pytest.raises(InputError) as a: read_picture('a.png', data)
        with pytest.raises(InputError) as b: read_labels('a.png', data)
        assert str(a.value) == str(b.value)

def test_a_class_that_no_file_has_is_an_error(tmp_path):
    for f in ('images', 'masks'): (tmp_path/'raw'/f).mkdir(parents=True)
    for k in range(12):
        Image.fromarray(np.random.default_rng(k).integers(0, 200, SHAPE).astype(np.uint8)).save(
            tmp_path/'raw'/'images'/f'{k}.png')
        a = np.zeros(SHAPE, np.uint8); a[10:40, 20:50] = 1; a[50:80, 60:100] = 2
        Image.fromarray(a).save(tmp_path/'raw'/'masks'/f'{k}.png')
    with pytest.raises(InputError, match='2 classes: 1 and 2'):
        prepare(tmp_path/'raw', tmp_path/'p', size=SHAPE)
    said = r'--region: no annotation has the class 7 \(they have: 1, 2\)'
    with pytest.raises(InputError, match=said):
        prepare(tmp_path/'raw', tmp_path/'p', size=SHAPE, region=7)
    with pytest.raises(InputError, match=said): verify(tmp_path/'raw', region=7)
    assert 'empty_mask' not in set(verify(tmp_path/'raw', region=2).findings.check)
    cases = prepare(tmp_path/'raw', tmp_path/'p', size=SHAPE, region=2)
    assert np.allclose(cases.area, 30*40/(96*128))
