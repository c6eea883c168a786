"Annotations as people have them: formats become masks and back; what is broken is one clear line."
import csv, io, json, math, random, re, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from fetal_seg.core import InputError, read_json
from fetal_seg.data import (
    LAYOUTS, annotation_digest, find_cases, is_picture, pair_files, read_pair, split_suffix)
from fetal_seg.exchange import (DOCUMENTS, Document, Entry, check_exports, check_labelme,
                                draw_entry, fill_ellipse, fill_polygon, find_entry, find_picture,
                                by_name, hc18_rows, label_value, mask_to_polygons, nnunet_labels,
                                parse_xml, read_coco, read_cvat, read_document, read_entry,
                                read_labelme, read_via, read_via_csv, to_coco, to_labelme, trace,
                                write_dicom_seg, write_hc18, write_predictions)
from fetal_seg.preprocess import prepare, read_cases, case_path, read_mask

W, H = 64, 48
# no centre is on its outline
BLOB = [(10.2, 8.7), (33.1, 12.4), (40.9, 30.3), (22.6, 41.2), (7.3, 25.8)]
DOT = [(50, 5), (56, 5), (56, 11), (50, 11)]                                  # six pixels square

def oracle(points, shape):
    "Even-odd by a ray to the right of each centre, one at a time."
    out = np.zeros(shape, bool)
    for r in range(shape[0]):
        for c in range(shape[1]):
            x, y, n = c + 0.5, r + 0.5, 0
            for (xa,ya),(xb,yb) in zip(points, [*points[1:], points[0]]):
                if (ya <= y) != (yb <= y): n += xa + (y-ya)*(xb-xa)/(yb-ya) <= x
            out[r,c] = n % 2
    return out

# c is rightly empty
EXPECTED = {'a': oracle(BLOB, (H,W)), 'b': oracle(BLOB, (H,W)) | oracle(DOT, (H,W)),
            'c': np.zeros((H,W), bool)}
SHAPES = {'a': [BLOB], 'b': [BLOB, DOT], 'c': []}

def speckle(seed): return np.random.default_rng(seed).integers(0, 255, (H,W)).astype(np.uint8)

def pictures(folder, names='abcd'):
    "Simulated speckle; d is in no document."
    folder.mkdir(parents=True, exist_ok=True)
    for n in names: Image.fromarray(speckle(ord(n))).save(folder/f'{n}.png')
    return folder

def labelme(name, polygons, label='lesion', **kw):
    def shape(ps):
        return dict(label=label, points=[list(p) for p in ps], group_id=None, shape_type='polygon',
                    flags={})
    return dict(version='5.5.0', flags={}, imagePath=f'{name}.png', imageData=None, imageHeight=H,
                imageWidth=W, shapes=[shape(ps) for ps in polygons]) | kw

def coco(label='lesion'):
    images = [dict(id=10*k, file_name=f'{n}.png', height=H, width=W)
              for k,n in enumerate(SHAPES, 1)]
    annotations = [dict(id=100*i['id'] + k, image_id=i['id'], category_id=3,
                        segmentation=[[v for p in ps for v in p]], iscrowd=0)
                   for i in images for k,ps in enumerate(SHAPES[i['file_name'][0]])]
    return dict(images=images, categories=[dict(id=3, name=label)], annotations=annotations)

def via(label='lesion'):
    def region(ps):
        xs, ys = [p[0] for p in ps], [p[1] for p in ps]
        return dict(shape_attributes=dict(name='polygon', all_points_x=xs, all_points_y=ys),
                    region_attributes=dict(label=label))
    def picture(n):
        return dict(filename=f'{n}.png', size=99, file_attributes={},
                    regions=[region(ps) for ps in SHAPES[n]])
    return {f'{n}.png99': picture(n) for n in SHAPES}

def via_csv():
    out = io.StringIO()
    w = csv.writer(out)
    w.writerow(['filename', 'file_size', 'file_attributes', 'region_count', 'region_id',
                'region_shape_attributes', 'region_attributes'])
    for m in via().values():
        for k,r in enumerate(m['regions'] or [dict(shape_attributes={}, region_attributes={})]):
            w.writerow([m['filename'], 99, '{}', len(m['regions']), k,
                        json.dumps(r['shape_attributes']), json.dumps(r['region_attributes'])])
    return out.getvalue()

def cvat(label='lesion'):
    def polygon(ps):
        points = ';'.join(f'{x},{y}' for x,y in ps)
        return f'<polygon label="{label}" source="manual" points="{points}"></polygon>'
    def image(k, n):
        return (f'<image id="{k}" name="{n}.png" width="{W}" height="{H}">'
                + ''.join(map(polygon, SHAPES[n])) + '</image>')
    head = '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
    return head + ''.join(image(k, n) for k,n in enumerate(SHAPES)) + '</annotations>'

def write(folder, kind):
    "A raw folder of a kind."
    raw = pictures(folder)
    if kind == 'labelme':
        for n,ps in SHAPES.items(): (raw/f'{n}.json').write_text(json.dumps(labelme(n, ps)))
    if kind == 'coco': (raw/'instances.json').write_text(json.dumps(coco()))
    if kind == 'via': (raw/'via.json').write_text(json.dumps(via()))
    if kind == 'via csv': (raw/'via.csv').write_text(via_csv())
    if kind == 'cvat': (raw/'annotations.xml').write_text(cvat())
    return raw

KINDS = ('labelme', 'coco', 'via', 'via csv', 'cvat')

@pytest.mark.parametrize('kind', KINDS)
def test_prepare_makes_the_masks_of_every_format(tmp_path, kind):
    raw, out = write(tmp_path/'raw', kind), tmp_path/'prepared'
    cases, left = find_cases(raw)
    assert list(cases.case) == ['a', 'b', 'c'] and set(cases.layout) == {kind.split()[0]}
    assert [(f, k) for f,k in zip(left.file, left.kind)] == [('d.png', 'unannotated')]
    got = prepare(raw, out, size=(H,W), split='hash', exams='(.)\\.png')
    for r in got.itertuples():
        assert (read_mask(case_path(out, r, 'full_masks'))
                > 0).tolist() == EXPECTED[r.case].tolist(), r.case
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob('*.png')}
    prepare(raw, out, size=(H,W), split='hash', exams='(.)\\.png')
    assert stamps == {p: p.stat().st_mtime_ns
                      for p in out.rglob('*.png')}, 'nothing has changed, and it was done anew'

@pytest.mark.parametrize('kind', ['coco', 'cvat'])
def test_one_entry_more_or_changed_makes_one_case_new(tmp_path, kind):
    raw = write(tmp_path/'raw', kind)
    refs = find_cases(raw)[0].annotation
    before = [annotation_digest(raw, r) for r in refs]
    assert len(set(before)) == 3
    (f,) = [p for p in raw.iterdir() if p.suffix in ('.json', '.xml')]
    f.write_text(f.read_text().replace('41.2', '42.2', 1))
    after = [annotation_digest(raw, r) for r in refs]
    assert [a == b for a,b in zip(before, after)] == [False, True, True]

@pytest.mark.parametrize('kind', KINDS)
def test_verify_reads_every_format(tmp_path, kind):
    from fetal_seg.verify import verify
    v = verify(write(tmp_path/'raw', kind), exams='(.)\\.png')
    wrong = {'unreadable', 'shape_mismatch', 'mask_values', 'hollow_mask'} & set(v.findings.check)
    assert not wrong
    v.save_html(tmp_path/'page.html')

def test_a_fault_of_an_entry_is_a_finding_of_verify_and_one_line_of_prepare(tmp_path):
    raw = write(tmp_path/'raw', 'labelme')
    (raw/'a.json').write_text(json.dumps(labelme('a', [[(100,100), (120,100), (120,120)]])))
    from fetal_seg.verify import verify
    v = verify(raw, exams='(.)\\.png')
    assert any('covers no pixel' in str(f.value) for f in v.findings.itertuples() if f.case == 'a')
    said = (r'a\.json: shape 1 \(lesion\) covers no pixel of a\.png, 64x48 pixels: '
            r'it is outside, or too thin; draw it anew')
    with pytest.raises(InputError, match=said) as e: prepare(raw, tmp_path/'out')
    assert '\n' not in str(e.value)

def test_given_splits_and_classes_of_folders(tmp_path):
    for s in ('train', 'valid', 'test'):
        pictures(tmp_path/s/'benign', 'abc')
        images = [i | dict(file_name=f'benign/{i["file_name"]}') for i in coco()['images']]
        (tmp_path/s/'_annotations.coco.json').write_text(json.dumps(coco() | dict(images=images)))
    cases, left = find_cases(tmp_path)
    assert len(cases) == 9 and set(cases.given_split) == {'train', 'valid', 'test'}
    assert set(cases.label) == {'benign'} and left.empty
    assert all(a.split('/')[0] == i.split('/')[0] for a,i in zip(cases.annotation, cases.image))

def test_two_documents_of_one_picture_are_ambiguous_and_named(tmp_path):
    raw = write(tmp_path/'raw', 'coco')
    (raw/'copy.json').write_text(
        json.dumps(coco() | dict(images=coco()['images'][:1], annotations=[])))
    cases, left = find_cases(raw)
    assert list(cases.case) == ['b', 'c']
    row = left[left.file == 'a.png'].iloc[0]
    assert row.kind == 'ambiguous'
    assert 'copy.json#10' in row.reason and 'instances.json#10' in row.reason

def test_masks_come_before_documents_that_find_no_more(tmp_path):
    raw = tmp_path/'raw'
    pictures(raw/'images', 'abc'); pictures(raw/'masks', 'abc')
    images = [i | dict(file_name=f'images/{i["file_name"]}') for i in coco()['images']]
    (raw/'instances.json').write_text(json.dumps(coco() | dict(images=images)))
    assert set(find_cases(raw)[0].layout) == {'folders'}
    entries = set(find_cases(raw, 'coco')[0].annotation)
    assert entries == {f'instances.json#{k}0' for k in (1,2,3)}

def test_other_json_xml_and_csv_are_none_of_ours(tmp_path):
    raw = write(tmp_path/'raw', 'labelme')
    others = {'package.json': '{"name": "x"}', 'list.json': '[1, 2]',
              'sizes.csv': 'filename,pixel size(mm)\na.png,0.1\n',
              'voc.xml': '<annotation><folder/></annotation>', '.hidden.json': '{'}
    for name,text in others.items(): (raw/name).write_text(text)
    cases, left = find_cases(raw)
    assert len(cases) == 3 and set(left[left.kind == 'foreign'].file) == set(others)

# Classes

def test_several_labels_are_refused_over_the_dataset_and_chosen_by_name(tmp_path):
    raw = pictures(tmp_path/'raw', 'abc')
    for n, label in zip('abc', ('cyst', 'tumour', 'tumour')):
        (raw/f'{n}.json').write_text(json.dumps(labelme(n, [BLOB], label)))
    said = ('2 labels: cyst, tumour; say which is the region: --region "cyst", '
            'or --region any for all of them')
    with pytest.raises(InputError, match=said): prepare(raw, tmp_path/'out')
    said = "no shape of raw has the label 'lump'; choose among cyst, tumour, or any"
    with pytest.raises(InputError, match=said):
        prepare(raw, tmp_path/'out', region='lump')
    for region,full in (('tumour', {'b', 'c'}), ('any', {'a', 'b', 'c'})):
        out = tmp_path/region
        got = prepare(raw, out, size=(H,W), exams='(.)\\.png', region=region)
        with_region = [r.case for r in got.itertuples()
                       if read_mask(case_path(out, r, 'full_masks')).any()]
        assert set(with_region) == full

@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_nnunet_with_names_of_classes(tmp_path, suffix):
    raw = tmp_path/'raw'
    (raw/'imagesTr').mkdir(parents=True); (raw/'labelsTr').mkdir(); (raw/'imagesTs').mkdir()
    labels = np.zeros((H,W), np.uint8); labels[5:10,5:10] = 1; labels[20:30,20:40] = 2
    for n in 'abc':
        for f in (f'imagesTr/{n}_0000', f'imagesTr/{n}_0001', f'imagesTs/{n}{n}_0000'):
            Image.fromarray(speckle(ord(n))).save(raw/f'{f}.{suffix}')
        Image.fromarray(labels).save(raw/f'labelsTr/{n}.{suffix}')
    (raw/'dataset.json').write_text(
        json.dumps(dict(labels=dict(background=0, tumour=1, vessel=2, all=[1, 2]), numTraining=3)))
    cases, left = find_cases(raw)
    assert list(cases.case) == list('abc') and set(cases.layout) == {'nnunet'}
    assert left.kind.value_counts().to_dict() == {'unannotated': 3, 'channel': 3, 'foreign': 1}
    with pytest.raises(InputError, match='2 classes: 1 and 2'): prepare(raw, tmp_path/'out')
    for region,area in (('vessel', 200), ('1', 25), ('any', 225)):
        got = prepare(raw, tmp_path/region, size=(H,W), exams='(.)_0000', region=region)
        masks = [read_mask(case_path(tmp_path/region, r, 'full_masks')) for r in got.itertuples()]
        assert [m.sum() for m in masks] == [area]*3
    with pytest.raises(InputError, match="'all' is a union of the values 1, 2"):
        prepare(raw, tmp_path/'x', region='all')

def test_nii_gz_is_one_suffix(monkeypatch):
    from fetal_seg.images import SUFFIXES
    monkeypatch.setattr('fetal_seg.data.SUFFIXES', set(SUFFIXES) | {'.nii', '.nii.gz', '.mha'})
    assert split_suffix('x/a.b.NII.GZ') == ('x/a.b', '.nii.gz')
    assert split_suffix('a.tar.gz') == ('a.tar', '.gz')
    assert is_picture('a.nii.gz') and not is_picture('a.tar.gz') and not is_picture('.a.nii.gz')
    pairs, _, left = pair_files(
        ['imagesTr/c_01_0000.nii.gz', 'labelsTr/c_01.nii.gz', 'imagesTs/c_02_0000.nii.gz'],
        LAYOUTS['nnunet'])
    assert {i.stem: a[0].file
            for i, a in pairs.items()} == {'c_01': 'labelsTr/c_01.nii.gz'} and len(left) == 1

# The rule

def test_polygons_by_an_oracle_of_single_rays():
    rng = np.random.default_rng(0)
    for k in range(60):
        n = rng.integers(3, 9)
        # half of them with centres on the outline
        p = rng.uniform(-10, 34, (n,2)) if k % 2 else rng.integers(-6, 60, (n,2))/2
        assert (fill_polygon(p, (18,22)) == oracle(p.tolist(), (18,22))).all()

def test_polygons_agree_with_scikit_image_off_the_outline():
    draw = pytest.importorskip('skimage.draw')
    rng = np.random.default_rng(1)
    for _ in range(60):
        p = rng.uniform(2, 38, (rng.integers(3, 8), 2))
        assert (fill_polygon(p, (40,40)) == draw.polygon2mask((40,40), p[:,::-1] - 0.5)).all()

def test_tiles_neither_overlap_nor_leave_gaps():
    rng = np.random.default_rng(2)
    for _ in range(30):
        cut = [tuple(v) for v in rng.integers(0, 21, (2,2))/2 + [[0,0], [0,0]]]
        square = [(0,0), (10,0), (10,10), (0,10)]
        middle = tuple(rng.integers(1, 20, 2)/2)
        corners = [[square[k], square[(k+1) % 4], middle] for k in range(4)]
        parts = sum(fill_polygon(c, (10,10)).astype(int) for c in corners)
        assert (parts == 1).all()

def test_area_of_ellipses():
    for rx,ry,t in ((40,20,0.3), (15,15,0), (60,5,1.2)):
        area = fill_ellipse((100,90,rx,ry,t), (180,200)).sum()
        assert area == pytest.approx(math.pi*rx*ry, rel=0.02)

# Round trips

def zoo(seed):
    "Masks of all kinds: noise, rings in rings, corners that touch, cut by the border, full, empty."
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, 40, 2)
    kind = seed % 6
    if kind == 0: return rng.random((h,w)) < rng.random()
    if kind == 1: return np.kron(rng.random((5,6)) < 0.5, np.ones((3,4))) > 0
    if kind == 2:
        r = np.hypot(*(np.indices((41,37)) - [[[rng.integers(5,35)]], [[rng.integers(5,30)]]]))
        return (r < 18) & ~(r < 12) | (r < 8) & ~(r < rng.integers(0,6))
    if kind == 3: return np.indices((h,w)).sum(0) % 2 == 0
    if kind == 4: return np.ones((h,w), bool)
    u = rng.uniform
    return fill_ellipse((u(0,60), u(0,40), u(3,30), u(1,20), u(0,3)), (40,60))

@pytest.mark.parametrize('exact', [False, True])
def test_polygons_of_a_mask_give_it_back(exact):
    for seed in range(150):
        m = zoo(seed)
        ps = mask_to_polygons(m, exact_corners=exact)
        again = np.any([fill_polygon(p, m.shape) for p in ps], 0) if ps else np.zeros_like(m)
        assert (again == m).all(), seed
        if exact: assert all((p == np.round(p)).all() for p in ps)

def test_few_points_are_few():
    m = fill_ellipse((400,270,250,180,0.4), (540,800))
    (few,), (many,) = mask_to_polygons(m), mask_to_polygons(m, exact_corners=True)
    assert len(few) < 0.4*len(many) and (fill_polygon(few, m.shape) == m).all()

def test_pycocotools_reads_ours_to_the_pixel_and_we_its_runs():
    cm = pytest.importorskip('pycocotools.mask')
    for seed in range(60):
        m = zoo(seed)
        doc = to_coco([('a.png', m, m*0.5)])
        theirs = [cm.decode(cm.merge(cm.frPyObjects(a['segmentation'], *m.shape))) > 0
                  for a in doc['annotations']]
        assert (np.any(theirs, 0) == m).all() if theirs else not m.any()
        assert [t.sum() for t in theirs] == [a['area'] for a in doc['annotations']]
        packed = cm.encode(np.asfortranarray(m, np.uint8))
        annotation = dict(id=1, image_id=1, category_id=1,
                          segmentation=dict(size=list(m.shape), counts=packed['counts'].decode()))
        if m.any():
            assert (draw_entry('',
                               read_coco('', doc | dict(annotations=[annotation]))['1'],
                               m.shape) == m).all()

def test_packed_runs_without_pycocotools_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools.mask', None)
    bad = coco(); bad['annotations'][0]['segmentation'] = dict(size=[H,W], counts='abc')
    with pytest.raises(
            InputError, match=
            r"packed run lengths, and pycocotools is not installed; pip install 'fetal_seg\[coco\]'"
    ):
        read_coco('c.json', bad)

def test_labelme_masks_circles_and_rectangles():
    import base64
    part = np.random.default_rng(0).random((4,6)) < 0.5
    f = io.BytesIO(); Image.fromarray(part).save(f, 'PNG')
    shapes = [
        dict(label='l', points=[[10, 20], [15, 23]], shape_type='mask',
             mask=base64.b64encode(f.getvalue()).decode()),
        dict(label='l', points=[[40, 20], [45, 20]], shape_type='circle'),
        dict(label='l', points=[[60, 40], [50, 44]], shape_type='rectangle')
    ]
    want = fill_ellipse((40,20,5,5,0), (H,W)); want[20:24,10:16] |= part; want[40:44,50:60] = True
    entry = read_labelme('', labelme('a', [], shapes=shapes))['']
    assert (draw_entry('', entry, (H,W)) == want).all()

def test_via_shapes_and_version_1():
    def region(**s): return dict(shape_attributes=s, region_attributes={'kind of thing': 'x'})

    m = dict(
        filename='a.png', regions={
            '0': region(name='rect', x=1, y=2, width=3,
                        height=4), '1': region(name='ellipse', cx=30, cy=20, rx=8, ry=4, theta=0.5),
            '2': region(name='circle', cx=50, cy=30, r=6)
        })
    e = read_via('', {'a': m})['0']
    want = fill_ellipse((30, 20, 8, 4, 0.5), (H, W)) | fill_ellipse((50, 30, 6, 6, 0), (H, W))
    want[2:6, 1:4] = True
    assert {s.label for s in e.shapes} == {'x'} and (draw_entry('', e, (H,W)) == want).all()

# What is broken

def broken():
    "Documents that cannot be read, with what must be said."
    lm, c, v, x = labelme('a', [BLOB]), coco(), via(), cvat()
    def shape(**kw): return dict(lm, shapes=[lm['shapes'][0] | kw])
    def annotation(**kw): return dict(c, annotations=[c['annotations'][0] | kw])
    def without(d, k): return {a: b for a,b in d.items() if a != k}
    nan = float('nan')
    yield 'json', without(lm, 'shapes'), 'this labelme file has no shapes'
    yield 'json', without(lm, 'imagePath'), 'this labelme file has no imagePath'
    yield 'json', dict(lm, shapes=7), "the shapes of this labelme file is '7'"
    yield 'json', dict(lm, shapes=['x']), "shape 1 is 'x' and no object"
    yield 'json', dict(lm, imageHeight='tall'), 'the size of a.png has something that is no number'
    yield 'json', shape(points=[[nan,1], [2,2], [3,3]]), 'has the coordinate nan'
    yield 'json', shape(points=[[1e300,1], [2,2], [3,3]]), 'has the coordinate 1e'
    yield 'json', shape(points=[[1,2,3], [2,2,3], [3,3,3]]), 'points with x and y'
    yield 'json', shape(points=[[1,2], [3]]), 'something that is no number'
    yield 'json', shape(points=[]), '0 points'
    yield 'json', shape(points='12'), "the points of shape 1 is '12'"
    yield 'json', shape(label=None), 'the label of shape 1 is null'
    yield 'json', shape(shape_type='linestrip'), "of the type 'linestrip', which encloses nothing"
    yield 'json', shape(shape_type='mask', points=[[1,1], [2,2]], mask='???'), 'no base64 text'
    yield 'json', shape(shape_type='mask', points=[[1, 1], [2, 2]],
                        mask='aGVsbG8='), 'cannot be decoded'
    yield 'json', shape(shape_type='circle', points=[[1,1], [1,1]]), 'has the semi-axes 0 and 0'
    yield 'json', without(c, 'annotations'), 'this COCO file has no annotations'
    yield 'json', dict(c, images=[dict(id=1)]), 'image 1 has no file_name'
    yield 'json', dict(c, images=c['images']*2), 'two images with the id 10'
    yield 'json', annotation(image_id=True), "the image_id of annotation 1000 is 'True'"
    said = 'annotation 1000 is of image 5, which is not among its images'
    yield 'json', annotation(image_id=5), said
    yield 'json', annotation(category_id=5), 'is of category 5, which is not among its categories'
    yield 'json', annotation(segmentation=[]), 'has no segmentation'
    yield 'json', annotation(segmentation='x'), "the segmentation of annotation 1000 is 'x'"
    yield 'json', annotation(segmentation=[[1,2,3]]), 'is no list x1, y1, x2, y2'
    yield 'json', annotation(segmentation=[[1,2,3,nan,5,6]]), 'has the coordinate nan'
    yield 'json', annotation(segmentation=[[1,2,3,4]]), '2 points'
    def runs(size, counts): return annotation(segmentation=dict(size=size, counts=counts))
    yield 'json', runs([2,2], [4]), 'and that of its image [48, 64]'
    yield 'json', runs([H,W], [4]), 'for 4 pixels, not for 64x48'
    yield 'json', runs([H,W], [-4, H*W + 4]), 'the run lengths of annotation 1000'
    yield 'json', dict(c, annotations=[None]), 'annotation 1 is'
    def via_of(regions): return dict(a=dict(filename='a.png', regions=regions))
    def drawn(**shape): return via_of([dict(shape_attributes=shape)])
    yield 'json', via_of(7), "the regions of a.png is '7'"
    yield 'json', via_of([{}]), 'region 1 of a.png has no shape_attributes'
    yield 'json', drawn(name='point', cx=1, cy=2), "of the type 'point'"
    yield 'json', drawn(name='circle', cx='1', cy=2, r=3), "the cx of region 1 of a.png is '1'"
    yield 'json', {'_via_img_metadata': []}, 'its _via_img_metadata is a list'
    yield 'json', '{"shapes": [', 'this is no JSON'
    yield 'json', '['*100000, 'this is no JSON'
    yield 'json', b'\xff\xfe{', 'this is no text in UTF-8'
    yield 'xml', x.replace('</annotations>', ''), 'this is no XML'
    yield 'xml', x.replace('points=', 'dots='), 'has no points'
    yield 'xml', x.replace('10.2,8.7', '10.2'), 'a point without x and y'
    yield 'xml', x.replace('10.2,8.7', '10.2,nan'), 'has the coordinate nan'
    yield 'xml', x.replace('10.2,8.7', '10.2,left'), 'something that is no number'
    yield 'xml', x.replace('label="lesion"', ''), 'has no label'
    yield 'xml', x.replace('name="a.png"', ''), 'image 1 has no name'
    yield 'xml', x.replace('id="1"', 'id="0"'), 'two images with the id 0'
    yield 'xml', x.replace('polygon', 'polyline'), "of the type 'polyline'"
    yield 'xml', '<annotations><track id="0" label="x"/></annotations>', 'this is CVAT for video'
    laughs = ''.join(f'<!ENTITY {chr(98+k)} "{f"&{chr(97+k)};"*10}">' for k in range(9))
    laughs = f'<!DOCTYPE lolz [<!ENTITY a "lol">{laughs}]><annotations>&j;</annotations>'
    yield 'xml', '<?xml version="1.0"?>' + laughs, 'it has a document type'
    entity = ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
              '<annotations>&x;</annotations>')
    yield 'xml', entity, 'it has a document type'
    wide = '<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>'.encode('utf-16')
    yield 'xml', wide, 'it has a document type'
    yield 'csv', via_csv().replace('""name"": ', '""name '), 'is no JSON'
    short = 'filename,region_shape_attributes,region_attributes\na.png'
    yield 'csv', short, 'line 2 has too few columns'

def short_id(v):
    plain = isinstance(v, str) and not v.startswith(('{', '<', '[', 'file'))
    return str(v)[:40] if plain else ''

@pytest.mark.parametrize('suffix,content,said', list(broken()), ids=short_id)
def test_what_is_broken_is_one_line_that_names_the_file(tmp_path, suffix, content, said):
    f = pictures(tmp_path)/f'a.{suffix}'
    if not isinstance(content, (bytes, str)): content = json.dumps(content)
    f.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=re.escape(said)) as e: read_document(f)
    assert str(e.value).startswith(str(f)) and '\n' not in str(e.value) and len(e.value.remedy) > 10
    with pytest.raises(InputError, match=re.escape(said)): find_cases(tmp_path)

def test_random_damage_is_an_input_error_or_a_document():
    rng, texts = random.Random(0), [json.dumps(o) for o in (labelme('a', [BLOB]), coco(), via())]
    values = [None, True, -1, 1e9, float('nan'), '', 'x', [], {}, [[]], [None]]
    def spoil(o):
        "Replace a value, somewhere."
        if isinstance(o, (dict, list)) and o and rng.random() < 0.85:
            k = rng.choice(list(o) if isinstance(o, dict) else range(len(o)))
            o[k] = spoil(o[k]); return o
        return rng.choice(values)
    outcomes = set()
    for k in range(600):
        doc, read = json.loads(texts[k % 3]), (read_labelme, read_coco, read_via)[k % 3]
        doc = spoil(doc)
        if not isinstance(doc, dict): continue
        try:
            [draw_entry('x', e, (H, W), 'any') for e in read('x.json', doc).values()]
            outcomes.add('read')
        except InputError as e: outcomes.add('refused'); assert '\n' not in str(e)
    assert outcomes == {'read', 'refused'}

def test_a_broken_neighbour_is_counted(tmp_path):
    raw = write(tmp_path, 'labelme')
    for n in 'ab': (raw/f'{n}.json').write_text('{')
    with pytest.raises(InputError,
                       match=r'a\.json: this is no JSON .* \(1 more files have faults: b\.json\)'):
        find_cases(raw)

def test_a_picture_of_another_size(tmp_path):
    raw = write(tmp_path, 'coco')
    Image.new('L', (W+1, H)).save(raw/'a.png')
    with pytest.raises(InputError,
                       match=r'instances\.json#10: drawn on 64x48 pixels, but a\.png has 65x48'):
        read_pair(raw, find_cases(raw)[0].iloc[0].to_dict())

@pytest.mark.parametrize('image,found',
                         [('a.png', ['s/a.png']), ('../s/a.png', ['s/a.png']),
                          ('s\\a.png', ['s/a.png']), ('/mnt/s/a.png', ['s/a.png']),
                          ('C:\\x\\s\\a.png', ['s/a.png']), ('Ü.png', ['s/U\u0308.png']),
                          ('gone.png', ['s/doc.png']), ('b.png', ['s/b.png', 't/b.png']),
                          ('t/b.png', ['t/b.png'])])
def test_names_of_pictures(image, found):
    names = by_name(['s/a.png', 's/U\u0308.png', 's/doc.png', 's/b.png', 't/b.png'])
    assert find_picture('u/doc.json' if image != 'gone.png' else 's/doc.json', image, names,
                        same_stem=True) == found

# Predictions go back

def results(out, masks, **kw):
    "A folder of results as `fetal_seg_predict` leaves it, and its table."
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for n,m in masks.items():
        Image.fromarray(m).save(out/f'{n}_mask.png')
        Image.fromarray((m*np.uint16(50000)).astype(np.uint16)).save(out/f'{n}_heatmap.png')
        rows.append(dict(name=n, file=str(out.parent/'raw'/f'{n}.png'), post='fill', problem='',
                         spacing_mm=0.1, ellipse_row=1., ellipse_col=2., ellipse_a=3.,
                         ellipse_b=2., ellipse_angle_deg=45.) | kw)
    return pd.DataFrame(rows)

def test_predictions_come_back_as_a_raw_folder(tmp_path):
    raw, out = pictures(tmp_path/'raw', 'abc'), tmp_path/'out'
    table = results(out, EXPECTED)
    written, problems = write_predictions(table, out, labelme=True, coco=tmp_path/'c.json')
    assert not problems and [w.name for w in written] == ['a.json', 'b.json', 'c.json', 'c.json']
    assert read_json(out/'a.json')['imagePath'] == '../raw/a.png'
    for layout in ('labelme', 'coco'):
        cases, _ = find_cases(tmp_path, layout)
        for c in cases.to_dict('records'):
            assert (read_pair(tmp_path, c)[1] == EXPECTED[c['case'].split('__')[-1]]).all()
        assert len(cases) >= 3
    doc = read_json(tmp_path/'c.json')
    assert [a['score'] for a in doc['annotations']] == pytest.approx([50000/65535]*3)
    one = doc['annotations'][0]
    rows, cols = np.nonzero(EXPECTED['a'])
    size = [cols.max() - cols.min() + 1, rows.max() - rows.min() + 1]
    assert one['bbox'] == [cols.min(), rows.min(), *size] and one['area'] == len(rows)

def test_labelme_documents_have_the_fields_of_its_schema():
    doc = to_labelme(EXPECTED['b'], 'b.png', 'lesion')
    fields = {'version', 'flags', 'shapes', 'imagePath', 'imageData', 'imageHeight', 'imageWidth'}
    assert fields <= set(doc) and (doc['imageHeight'], doc['imageWidth']) == (H, W)
    fields = {'label', 'points', 'group_id', 'description', 'shape_type', 'flags', 'mask'}
    for s in doc['shapes']:
        assert set(s) == fields and s['shape_type'] == 'polygon' and len(s['points']) >= 3
        assert all(0 <= x <= W and 0 <= y <= H for x,y in s['points'])

def test_corrections_and_files_of_others_are_not_overwritten(tmp_path):
    out = tmp_path/'out'
    table = results(out, EXPECTED)
    asked = dict(labelme=True, coco=tmp_path/'c.json', hc18=tmp_path/'h.csv')
    check_exports(out, list(table.name), **asked)
    write_predictions(table, out, **asked)
    check_exports(out, list(table.name), **asked)
    doc = read_json(out/'a.json'); doc['shapes'].pop(); (out/'a.json').write_text(json.dumps(doc))
    with pytest.raises(InputError, match='a.json: this file is there already'):
        check_exports(out, list(table.name), labelme=True)
    (tmp_path/'mine.json').write_text(json.dumps(coco()))
    (tmp_path/'mine.csv').write_text('filename\n')
    with pytest.raises(InputError, match='did not write it; choose another name'):
        check_exports(out, [], coco=tmp_path/'mine.json')
    with pytest.raises(InputError, match='did not write it; choose another name'):
        check_exports(out, [], hc18=tmp_path/'mine.csv')

def test_hc18_table_by_hand(tmp_path):
    known = dict(file='x/000_HC.png', spacing_mm=0.5, ellipse_row=10., ellipse_col=20.,
                 ellipse_a=8., ellipse_b=6., ellipse_angle_deg=180/4)
    none = {k: float('nan') for k in known if k.startswith('ellipse_')}
    rows, without = hc18_rows([known, dict(file='y.png', spacing_mm=0.5, **none)])
    assert without == ['y.png']
    lines = write_hc18(tmp_path/'h.csv', rows).read_text().splitlines()
    assert lines == ['filename,center_x_mm,center_y_mm,semi_axes_a_mm,semi_axes_b_mm,angle_rad',
                     '000_HC.png,10.000000,5.000000,4.000000,3.000000,0.785398']
    with pytest.raises(InputError, match='two pictures have one file name'):
        write_hc18(tmp_path/'h.csv', rows*2)

def test_the_ellipse_of_a_prediction():
    from fetal_seg.predict import ELLIPSE, is_one_region, measure
    m = fill_ellipse((100.5,70.5,50,30,math.radians(150)), (140,200)).astype(np.uint8)
    e = measure(m*0.9, m, spacing=0.2)
    assert [e[k] for k in ELLIPSE] == pytest.approx([70, 100, 50, 30, 150, 10, 6], abs=0.5)
    without = measure(m*0.9, m)
    assert np.isnan(without['ellipse_a_mm']) and without['ellipse_a'] == e['ellipse_a']
    m[0:5,0:5] = 1
    assert all(np.isnan(measure(m*0.9, m, spacing=0.2)[k]) for k in ELLIPSE)
    assert is_one_region(('largest',)) and is_one_region(('roundest', 'fill', 'ellipse'))
    assert not is_one_region(()) and not is_one_region(('fill',))

def us_dicom(path, rows=H, cols=W, **kw):
    "An ultrasound picture as DICOM, of nobody."
    pydicom = pytest.importorskip('pydicom')
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.5.1.4.1.1.6.1'
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    about = dict(
        PatientID='nobody', PatientName='No^Body', PatientBirthDate='', PatientSex='',
        StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), StudyDate='20200101',
        StudyTime='120000', StudyID='1', AccessionNumber='', ReferringPhysicianName='',
        Modality='US', SeriesNumber=1, InstanceNumber=1, Rows=rows, Columns=cols, SamplesPerPixel=1,
        PhotometricInterpretation='MONOCHROME2', BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelRepresentation=0, PixelSpacing=[0.2, 0.2], PixelData=np.random.default_rng(0).integers(
            0, 255, (rows, cols)).astype(np.uint8).tobytes()) | kw
    for k,v in about.items():
        if v is not None: setattr(ds, k, v)
    ds.save_as(path, enforce_file_format=True)
    return path

@pytest.mark.parametrize('name,head,meaning', [('b', False, 'Lesion'), ('a', True, 'Head'),
                                               ('c', False, 'Lesion')])
def test_dicom_segmentations_are_read_back(tmp_path, name, head, meaning):
    pytest.importorskip('highdicom')
    import pydicom
    source = us_dicom(tmp_path/'p.dcm')
    write_dicom_seg(tmp_path/'p.seg.dcm', source, EXPECTED[name], 'thing', head, '0.1')
    seg, src = pydicom.dcmread(tmp_path/'p.seg.dcm'), pydicom.dcmread(source)
    assert (seg.pixel_array.reshape(H,W) > 0).tolist() == EXPECTED[name].tolist()
    assert (seg.Modality, seg.PatientID, seg.StudyInstanceUID,
            seg.SegmentationType) == ('SEG', 'nobody', src.StudyInstanceUID, 'BINARY')
    (s,) = seg.SegmentSequence
    assert (s.SegmentLabel, s.SegmentAlgorithmType,
            s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning) == ('thing', 'AUTOMATIC', meaning)
    assert src.SOPInstanceUID in str(seg.ReferencedSeriesSequence)

def test_dicom_segmentations_that_cannot_be_made(tmp_path, monkeypatch):
    pytest.importorskip('highdicom')
    out = tmp_path/'out'
    us_dicom(tmp_path/'a.dcm'); us_dicom(tmp_path/'b.dcm', StudyInstanceUID=None)
    table = results(out, EXPECTED)
    table['file'] = [
        str(tmp_path/'a.dcm'),
        str(tmp_path/'b.dcm'),
        str(pictures(tmp_path/'raw', 'c')/'c.png')
    ]
    check_exports(out, list(table.name), dicom_seg=True)
    written, problems = write_predictions(table, out, dicom_seg=True)
    assert [w.name for w in written] == ['a.seg.dcm'] and len(problems) == 2
    assert 'no segmentation can be made of this DICOM file' in problems[
        0] and 'this is no DICOM file' in problems[1]
    check_exports(out, ['a'], dicom_seg=True)
    us_dicom(out/'b.seg.dcm')
    with pytest.raises(InputError, match='did not write it'):
        check_exports(out, ['b'], dicom_seg=True)
    monkeypatch.setitem(sys.modules, 'highdicom', None)
    with pytest.raises(
            InputError,
            match=r"--dicom-seg: highdicom is not installed; pip install 'fetal_seg\[seg\]'"):
        check_exports(out, ['x'], dicom_seg=True)

def test_the_command_writes_what_was_asked_for(tmp_path, capsys):
    from fetal_seg.cli import predict
    from fetal_seg.phantom import simulate
    raw, out = tmp_path/'raw', tmp_path/'out'
    raw.mkdir()
    for k in range(2): Image.fromarray(simulate(k)[0]).save(raw/f'{k}_HC.png')
    argv = [
        str(raw), '--out',
        str(out), '--labelme', '--coco',
        str(tmp_path/'c.json'), '--hc18',
        str(tmp_path/'h.csv'), '--spacing', '0.1', '--label', 'head', '--json'
    ]
    assert predict(argv) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said['written']) == 4
    for r in said['predictions']:
        mask = np.asarray(Image.open(out/f'{r["name"]}_mask.png')) > 0
        entry = read_document(out/f'{r["name"]}.json').entries['']
        assert (draw_entry('', entry, mask.shape)
                == mask).all() and {s.label
                                    for s in entry.shapes} == {'head'}
        assert r['ellipse_a_mm'] == pytest.approx(
            0.1*r['ellipse_a']) and 0 <= r['ellipse_angle_deg'] < 180
    table = pd.read_csv(tmp_path/'h.csv')
    assert list(table.filename) == ['0_HC.png', '1_HC.png']
    assert np.allclose(table.center_x_mm, [0.1*r['ellipse_col'] for r in said['predictions']],
                       atol=1e-5)
    assert predict(argv[:-1]) == 0                                # our own files are written anew
    doc = read_json(out/'0_HC.json')
    doc['shapes'] = []
    (out/'0_HC.json').write_text(json.dumps(doc))
    assert predict(argv[:-1]) == 2 and 'somebody may have corrected it' in capsys.readouterr().err
    # no size of a pixel
    assert predict([str(raw), '--out',
                    str(tmp_path/'other'), '--hc18',
                    str(tmp_path/'h2.csv')]) == 1
    assert 'name it with --spacing' in capsys.readouterr().err
