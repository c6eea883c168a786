"""Which files are pictures, which annotations, and whose: one list for all commands, names in two
Unicode forms, exams and sizes of headers, tables with units."""
import re, subprocess, sys, unicodedata, warnings
from io import BytesIO
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from fetal_seg.core import InputError
from fetal_seg.data import (LAYOUTS, add_exams, check_spacing, find_cases, find_pictures,
                            given_spacing, list_files, pair_files, passed_over, passed_text,
                            read_pair, read_sizes, to_number)
from fetal_seg.images import SUFFIXES, read_picture, split_suffix, why_passed
from fetal_seg.geometry import circumference
from fetal_seg.preprocess import prepare, read_cases
from fetal_seg.verify import verify

bin, H, W = Path(sys.executable).parent, 48, 64
y, x = np.mgrid[:H, :W]
region = ((y-24)/12)**2 + ((x-32)/18)**2 <= 1
AROUND = circumference(18, 12)

def picture(seed=0):
    noise = np.random.default_rng(seed).standard_normal((H, W))
    return np.clip(60 + 25*noise + 60*region, 0, 255).astype(np.uint8)

def encoded(a, kind, **kw):
    f = BytesIO()
    Image.fromarray(a).save(f, kind, **kw)
    return f.getvalue()

def npy(a):
    f = BytesIO()
    np.save(f, a)
    return f.getvalue()

def mha(a):
    n = a.ndim
    head = dict(ObjectType='Image', NDims=n, BinaryData=True, ElementSpacing=' '.join(['0.3']*n),
                DimSize=' '.join(map(str, a.shape[::-1])), ElementType='MET_UCHAR',
                ElementDataFile='LOCAL')
    return '\n'.join(f'{k} = {v}' for k,v in head.items()).encode() + b'\n' + a.tobytes()

def volume(a, suffix):
    sitk = pytest.importorskip('SimpleITK')
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        im = sitk.GetImageFromArray(a)
        im.SetSpacing((0.3, 0.3))
        sitk.WriteImage(im, f'{d}/a{suffix}')
        return Path(f'{d}/a{suffix}').read_bytes()

def dicom(a=None, frames=1, kind='1.2.840.10008.5.1.4.1.1.6.1', **tags):
    "A DICOM file; without pixels where `a` is None."
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1'
    ds.SOPClassUID, ds.SOPInstanceUID = kind, '1.2.3'
    if a is not None:
        ds.Rows, ds.Columns = a.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        if frames > 1: ds.NumberOfFrames = frames
        ds.PixelData = a.tobytes()*frames
    for k,v in tags.items(): setattr(ds, k, v)
    f = BytesIO()
    ds.save_as(f, enforce_file_format=True)
    return f.getvalue()

def put(folder, files):
    for name,data in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(data)
    return folder

PNG, MASK = encoded(picture(), 'PNG'), encoded(region*np.uint8(255), 'PNG')

def pngs(folder, image='images/{}.png', mask='masks/{}.png', n=6):
    "Pictures with their masks, in one of the layouts."
    for i in range(n):
        put(folder, {image.format(i): encoded(picture(i), 'PNG'), mask.format(i): MASK})
    return folder

def run(*args):
    return subprocess.run([str(bin/args[0]), *map(str, args[1:])], capture_output=True, text=True,
                          timeout=300)

# What is a picture

WRITERS = {
    '.png': lambda a: encoded(a, 'PNG'), '.bmp': lambda a: encoded(a, 'BMP'),
    '.tif': lambda a: encoded(a, 'TIFF'), '.gif': lambda a: encoded(a, 'GIF'),
    '.jp2': lambda a: encoded(a, 'JPEG2000'), '.pgm': lambda a: encoded(a, 'PPM'),
    '.webp': lambda a: encoded(a, 'WEBP', lossless=True), '.npy': npy, '.mha': mha,
    '.nii.gz': lambda a: volume(a, '.nii.gz'), '.nii': lambda a: volume(a, '.nii'),
    '.nrrd': lambda a: volume(a, '.nrrd'), '.dcm': dicom, '.DCM': dicom, '': dicom
}

@pytest.mark.parametrize('layout', ['folders', 'busi'])
@pytest.mark.parametrize('suffix', WRITERS)
def test_a_picture_and_its_mask_of_one_format(suffix, layout, tmp_path):
    "They pair in both layouts, the pixels are right, and a prediction takes the picture alone."
    write = WRITERS[suffix]
    names = ('images/p_01', 'masks/p_01') if layout == 'folders' else ('p_01', 'p_01_mask')
    img, ann = (n + suffix for n in names)
    put(tmp_path, {img: write(picture()), ann: write(region*np.uint8(255))})
    cases, left = find_cases(tmp_path)
    columns = ['image', 'annotation', 'layout', 'case']
    assert cases[columns].values.tolist() == [[img, ann, layout, 'p_01']] and left.empty
    a, m, facts = read_pair(tmp_path, cases.iloc[0].to_dict())
    assert (a == picture()).all() and (m == region).all()
    found, passed = find_pictures(tmp_path)
    assert found == [img]
    assert passed.file.tolist() == [ann] and passed.kind.tolist() == ['annotation']

def test_content_decides_where_the_name_does_not(tmp_path):
    film, sr = dicom(picture(), frames=5), '1.2.840.10008.5.1.4.1.1.88.11'
    scan, jpeg = dicom(picture()), encoded(picture(), 'JPEG')
    good = {'IM_0001': scan, 'a/1.2.840.113619.2.55': scan, 'A3.DCM': scan, 'b.IMA': scan,
            'shot': PNG, 'I.7': jpeg, 'x.png': PNG, 'y.jfif': jpeg, 'z.dcm': b'damaged'}
    bad = {
        'DICOMDIR': (dicom(kind='1.2.840.10008.1.3.10'), 'DICOMDIR'),
        'SR.dcm': (dicom(kind=sr), 'report'), 'SR_0001': (dicom(kind=sr), 'report'),
        'CINE.dcm': (film, 'film of 5 frames'), 'cine': (film, 'film of 5 frames'),
        'state.dcm': (dicom(kind='1.2.840.10008.5.1.4.1.1.11.1'), 'without a picture'),
        'seg.dcm': (dicom(picture(), kind='1.2.840.10008.5.1.4.1.1.66.4'), 'segmentation'),
        'notes': (b'call Ann', 'no picture'), 'Thumbs.db': (b'x', 'no picture'),
        '._a.png': (b'x', 'no picture'), 'movie.mp4': (b'', 'a film'),
        'h.mhd': (b'NDims = 2', 'another file'), 'p.heic': (b'', 'not read'),
        'w.mat': (b'', 'arrays'), 'old.png.bak': (PNG, 'no picture'),
        'list.csv': (b'a,b', 'no picture')
    }
    put(tmp_path, good | {k: v[0] for k,v in bad.items()})
    files = list_files(tmp_path)
    passed = passed_over(tmp_path, files)
    assert sorted(passed) == sorted(bad) and sorted(set(files) - set(passed)) == sorted(good)
    for name, (_, said) in bad.items():
        assert said in passed[name][0] and passed[name][1], (name, passed[name])
    found, left = find_pictures(tmp_path)
    assert sorted(found) == sorted(good) and sorted(left.file) == sorted(bad)
    for name in set(good) - {'z.dcm'}: assert read_picture(tmp_path/name).pixels.shape == (H, W)

def test_a_pipe_is_not_waited_for(tmp_path):
    import os
    if not hasattr(os, 'mkfifo'): pytest.skip('no pipes here')
    os.mkfifo(tmp_path/'pipe')
    assert why_passed(tmp_path/'pipe')[0] == 'this is no picture'

@pytest.mark.parametrize('name, parts',
                         [('a.nii.gz', ('a', '.nii.gz')), ('A.NII.GZ', ('A', '.nii.gz')),
                          ('a.b.png', ('a.b', '.png')), ('IM_0001', ('IM_0001', '')),
                          ('x/IM.12', ('x/IM.12', '')), ('1.2.840.5.dcm', ('1.2.840.5', '.dcm')),
                          ('v1.0/scan', ('v1.0/scan', '')), ('.hidden', ('.hidden', '')),
                          ('a.tar.gz', ('a.tar', '.gz'))])
def test_suffixes(name, parts): assert split_suffix(name) == parts

# What is an annotation

@pytest.mark.parametrize('seed', range(30))
def test_no_annotation_is_ever_predicted(seed, tmp_path):
    "Random datasets of several layouts below one root; any format, capitals and Unicode form."
    rng = np.random.default_rng(seed)
    images, annotations, suffixes = [], [], sorted(SUFFIXES - {'.dcm', '.dicom'})
    for k in range(rng.integers(1, 4)):
        top = f'set{k}/' if rng.random() < 0.7 else f'Überlay of {k}/'
        for i in range(rng.integers(1, 4)):
            s, t = rng.choice(suffixes, 2)
            name = rng.choice(['case {}', 'é{}', 'p.{}', '{}_2HC', 'benign ({})']).format(i)
            forms = [unicodedata.normalize(f, name) for f in rng.choice(['NFC', 'NFD'], 2)]
            kind = rng.choice(['images', 'busi', 'hc', 'orphan'])
            if kind == 'images':
                images.append(f'{top}images/{forms[0]}{s}')
                folder = rng.choice(['masks', 'Labels', 'annotations'])
                annotations.append(f'{top}{folder}/{forms[1]}{t}')
            elif kind == 'busi':
                images.append(f'{top}b/{forms[0]}{s}')
                ends = ('_mask', '_MASK_1', '_mask_12')[:rng.integers(1, 4)]
                annotations += [f'{top}b/{forms[1]}{e}{t}' for e in ends]
            elif kind == 'hc':
                images.append(f'{top}h/{forms[0]}{s}')
                end = rng.choice(['_Annotation', '_annotation', '_ANNOTATION'])
                annotations.append(f'{top}h/{forms[1]}{end}{t}')
            else:
                annotations.append(f'{top}o/{forms[0]}_mask{t}')
                images.append(f'{top}o/other{i}_{k}{s}')
    others = ['set0/out/a_heatmap.png', 'set0/out/a_overlay.png', 'set0/Thumbs.db']
    files = dict.fromkeys([*images, *annotations, *others])
    put(tmp_path, dict.fromkeys(files, b''))
    found, passed = find_pictures(tmp_path)
    assert sorted(found) == sorted(set(images))
    assert sorted(passed.file) == sorted({*annotations, *others})
    assert set(passed.kind) <= {'annotation', 'result', 'overlay', 'foreign'} and all(passed.reason)

def test_a_mask_whose_picture_cannot_be_read_stays_a_mask(tmp_path):
    put(tmp_path, {'images/a.mhd': b'', 'images/b.heic': b'', 'masks/a.png': MASK,
                   'masks/b.png': MASK})
    found, passed = find_pictures(tmp_path)
    assert found == [] and len(passed) == 4
    r = run('fetal_seg_predict', tmp_path, '--out', tmp_path.parent/'out')
    assert r.returncode == 2 and 'no picture among its 4 files' in r.stderr
    assert 'annotation: 2 (first: masks/a.png)' in r.stderr and 'Traceback' not in r.stderr

def test_a_prepared_folder_has_pictures_and_masks(tmp_path):
    pngs(tmp_path/'raw')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        prepare(tmp_path/'raw', tmp_path/'p', size=(H, W))
    found, passed = find_pictures(tmp_path/'p')
    assert len(found) == 6 and all('/images/' in f for f in found)
    assert (passed.kind == 'annotation').sum() == 12

def test_the_list_is_that_of_the_layouts():
    "No file that a layout pairs as an annotation is a picture, also by a layout of one's own."
    from fetal_seg.data import Layout, add_layout, find_annotations
    files = ['in/a.png', 'ref/a.png', 'in/b.png']
    before = dict(LAYOUTS)
    assert not find_annotations(files, {})
    try:
        add_layout(Layout('mine', '', r'in/(?P<stem>.+)', r'ref/(?P<stem>.+)'))
        assert list(find_annotations(files, {})) == ['ref/a.png']
    finally:
        LAYOUTS.clear()
        LAYOUTS.update(before)

def test_a_datasets_root_through_the_command(tmp_path):
    put(tmp_path/'d', {
        'busi/benign (4).png': PNG, 'busi/benign (4)_mask.png': MASK,
        'busi/benign (4)_mask_1.png': MASK, 'busi/Thumbs.db': b'x',
        'pairs/images/a.gif': encoded(picture(), 'GIF'), 'pairs/masks/a.png': MASK,
        'hc/7_HC.png': PNG, 'hc/7_HC_annotation.png': MASK,
        'dicom/IM_0001': dicom(picture()), 'dicom/CINE.dcm': dicom(picture(), frames=3)})
    r = run('fetal_seg_predict', tmp_path/'d', '--out', tmp_path/'out')
    assert r.returncode == 0 and '4 of 4 pictures predicted' in r.stdout
    (line,) = [l for l in r.stderr.splitlines() if 'passed over' in l]
    for said in ('annotation: 4 (first: busi/benign (4)_mask.png)',
                 'a film of 3 frames: 1 (first: dicom/CINE.dcm)',
                 'this is no picture: 1 (first: busi/Thumbs.db)'):
        assert said in line
    # named by itself: taken
    r = run('fetal_seg_predict', tmp_path/'d'/'pairs'/'masks'/'a.png', '--out', tmp_path/'one')
    assert r.returncode == 0 and '1 of 1 picture predicted' in r.stdout

# Names

@pytest.mark.parametrize('layout', ['folders', 'busi', 'hc18', 'kaggle'])
def test_names_in_two_unicode_forms_pair(layout, tmp_path):
    "Four cases: both forms of picture and annotation."
    at = dict(folders=('images/{}.png', 'masks/{}.png'), busi=('{}.png', '{}_mask.png'),
              hc18=('{}.png', '{}_Annotation.png'),
              kaggle=('d/benign/{}.png', 'd/benign/{}_Annotation.png'))[layout]
    names = ['José', 'Zoë', 'Müller', 'Ångström']
    for i,n in enumerate(names):
        forms = ('NFC', 'NFD')[i % 2], ('NFC', 'NFD')[i//2]
        image, mask = (t.format(unicodedata.normalize(f, n)) for t,f in zip(at, forms))
        put(tmp_path, {image: PNG, mask: MASK})
    cases, left = find_cases(tmp_path)
    assert sorted(cases.case) == sorted(names) and left.empty and set(cases.layout) == {layout}
    # paths are those of the disk
    assert all((tmp_path/f).exists() for f in [*cases.image, *cases.annotation])
    csv = tmp_path.parent/f'{layout}.csv'
    rows = [f'{unicodedata.normalize("NFD", n)},{i}\n' for i,n in enumerate(names)]
    csv.write_text('case,exam\n' + ''.join(rows), encoding='utf-8')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        cases = cases.assign(image_sha256='', annotation_sha256='', dhash='5'*16)
        exams = add_exams(cases, exams=csv)
    assert exams.exam_source.tolist() == ['csv']*4

def test_a_table_finds_names_in_another_form(tmp_path):
    text = unicodedata.normalize('NFD', 'filename,pixel size(mm)\né_HC.png,0.2\n')
    put(tmp_path, {'training_set/é_HC.png': PNG, 'training_set/é_HC_Annotation.png': MASK,
                   'training_set_pixel_size_and_HC.csv': text.encode()})
    assert find_cases(tmp_path)[0].pixel_size_mm.tolist() == [0.2]

def test_overlay_is_a_word_of_the_file_and_not_of_a_folder(tmp_path):
    top = 'overlays of May'
    put(tmp_path, {f'{top}/images/a.png': PNG, f'{top}/masks/a.png': MASK,
                   f'{top}/images/b.png': PNG, f'{top}/masks/b.png': MASK,
                   f'{top}/images/a_overlay.png': PNG, f'{top}/images/Overlaid b.png': PNG})
    cases, left = find_cases(tmp_path)
    assert cases.case.tolist() == ['a', 'b'] and set(left.kind) == {'overlay'}
    drawn = [f'{top}/images/Overlaid b.png', f'{top}/images/a_overlay.png']
    assert sorted(left.file) == drawn

def test_no_picture_is_dropped_by_its_name_alone(tmp_path):
    "A mask of its own makes a picture, for `prepare` and for `predict`."
    names = ['a_overlay_in_bit12', 'overlay_1', 'p_mask', 'q_Annotation', 'scan_overlay']
    put(tmp_path, {f'{folder}/{n}.png': data for n in names
                   for folder,data in (('images', PNG), ('masks', MASK))})
    cases, left = find_cases(tmp_path)
    assert cases.case.tolist() == names and left.empty
    found, passed = find_pictures(tmp_path)
    assert found == [f'images/{n}.png' for n in names]
    assert sorted(passed.file) == [f'masks/{n}.png' for n in names]
    # the picture itself beside one: that is a copy
    put(tmp_path, {'images/scan.png': PNG, 'masks/scan.png': MASK})
    cases, left = find_cases(tmp_path)
    assert 'scan' in set(cases.case) and 'scan_overlay' not in set(cases.case)
    assert set(left.kind) == {'overlay'}
    assert set(cases.image) == set(find_pictures(tmp_path)[0])

# Exams of DICOM headers

def test_exams_of_headers_reach_the_split_and_no_number_is_stored(tmp_path):
    "Twelve pictures of four patients and two studies without a patient."
    files, who = {}, {}
    for i in range(12):
        p = i % 6
        tags = dict(PatientID=f'HN-77{p:04d}', StudyInstanceUID=f'1.2.276.{i}')
        if p >= 4: tags = dict(PatientID='ANONYMOUS', StudyInstanceUID=f'1.2.276.77.{p}')
        files |= {f'images/s{i}x': dicom(picture(i), **tags), f'masks/s{i}x.png': MASK}
        who[f's{i}x'] = p
    put(tmp_path/'raw', files)
    kw = dict(size=(H, W), fractions=(0.5, 0.25, 0.25))
    cases = prepare(tmp_path/'raw', tmp_path/'p', **kw)
    assert set(cases.exam_source) == {'dicom'}
    assert cases.groupby(cases.case.map(who)).exam.nunique().max() == 1
    assert cases.groupby('exam').case.agg(lambda c: c.map(who).nunique()).max() == 1
    assert cases.groupby('exam').split.nunique().max() == 1
    for f in (tmp_path/'p').rglob('*'):
        if f.is_file(): assert not re.search(rb'HN-77|1\.2\.276', f.read_bytes()), f
    again = prepare(tmp_path/'raw', tmp_path/'q', **kw)
    assert (again.exam == cases.exam).all() and (again.split == cases.split).all()
    assert 'exams: 12 by dicom' in str(verify(tmp_path/'raw'))

def rows_of(names, **columns):
    "A row a letter, as `add_exams` takes them."
    return pd.DataFrame(dict(case=list(names), image=list(names), image_sha256='',
                             annotation_sha256='', dhash='5'*16) | columns)

def test_the_users_word_comes_before_the_header(tmp_path):
    cases = rows_of('abc', image=['1/a', '1/b', '2/c'],
                    header_exam=['dicom-1', 'dicom-2', 'dicom-2'])
    out = add_exams(cases, exams=r'^(1)/')
    # who shares a patient joins
    assert out.exam_source.tolist() == ['regex', 'regex', 'regex:dicom'] and out.exam.nunique() == 1
    assert add_exams(cases).exam.tolist() == ['dicom-1', 'dicom-2', 'dicom-2']
    some = cases.assign(header_exam=['dicom-1', None, np.nan], image=['a', '9_HC', 'c'])
    with pytest.warns(UserWarning, match='The exam of 1 of 3'):
        assert add_exams(some).exam_source.tolist() == ['dicom', 'name', 'none']

# Units and tables

HEAD = ('filename', 'pixel size(mm)', 'head circumference (mm)')

def hc18(folder, text, n=2):
    for i in range(n):
        put(folder/'training_set', {f'{900+i}_HC.png': encoded(picture(i), 'PNG'),
                                    f'{900+i}_HC_Annotation.png': MASK})
    (folder/'training_set_pixel_size_and_HC.csv').write_bytes(text)
    return folder

def table(rows, head=HEAD, sep=',', decimal='.', end='\n'):
    cells = [(n, *(str(v).replace('.', decimal) for v in vs)) for n,*vs in rows]
    return end.join(sep.join(r) for r in (head, *cells))

ROWS = [('900_HC.png', 0.0692, 44.3), ('901_HC.png', 0.0896, 56.81)]

@pytest.mark.parametrize('text', [
    table(ROWS).encode(),
    table(ROWS, sep=';', decimal=',', end='\r\n').encode(),
    table(ROWS, sep='\t').encode(), b'\xef\xbb\xbf' + table(ROWS, end='\r\n').encode(),
    table(ROWS, head=('Filename', 'Pixel Size (mm)', 'HC (mm)')).encode(),
    table(ROWS, head=('FILENAME', 'pixel_size_mm', 'Head Circumference [mm]')).encode(),
    table([(*r, 'x') for r in ROWS], head=(*HEAD, 'note')).encode(),
    table(ROWS[::-1]).encode()
], ids=range(8))
def test_tables_as_people_save_them(text, tmp_path):
    cases = find_cases(hc18(tmp_path, text))[0]
    assert cases.pixel_size_mm.tolist() == [0.0692, 0.0896]
    assert cases.circumference_mm.tolist() == [44.3, 56.81]

@pytest.mark.parametrize('row', [('901_HC.png', '', 56.81), None])
def test_an_unknown_size_is_none(row, tmp_path):
    cases = find_cases(hc18(tmp_path, table([ROWS[0], *([row] if row else [])]).encode()))[0]
    assert cases.pixel_size_mm[0] == 0.0692 and np.isnan(cases.pixel_size_mm[1])

@pytest.mark.parametrize('value, said', [
    ('69.2', 'likely in µm: 0.0692 mm'), ('0.00692', 'likely in cm: 0.0692 mm'),
    ('0.0000692', 'likely in m: 0.0692 mm'), ('6.92', 'likely in pixels per mm: 0.1445 mm'),
    ('14.45', 'likely in µm: 0.01445'), ('0', 'must be from 0.01 to 1'),
    ('-0.1', 'must be from 0.01 to 1'), ('inf', 'must be from 0.01 to 1'),
    ('1e9', 'must be from 0.01 to 1'), ('wide', 'the pixel size of 901_HC.png is wide')])
def test_a_size_that_no_pixel_has(value, said, tmp_path):
    text = table([ROWS[0], ('901_HC.png', value, 50)]).encode()
    with pytest.raises(InputError, match=re.escape(said)) as e: find_cases(hc18(tmp_path, text))
    assert e.value.path.endswith('training_set_pixel_size_and_HC.csv')
    assert '901_HC.png' in e.value.found and '\n' not in str(e.value)

def test_other_columns_are_one_clear_line(tmp_path):
    with pytest.raises(InputError,
                       match='its columns are name, size; it needs filename and pixel size'):
        find_cases(hc18(tmp_path, b'name,size\n900_HC.png,0.1\n'))

@pytest.mark.parametrize('factor, finds', [(1, False), (1.08, False), (0.93, False), (1.15, True),
                                           (0.85, True), (10, True), (0.1, True)])
def test_a_size_against_the_circumference(factor, finds, tmp_path):
    "Raw and prepared; the table's circumference is that of the mask at 0.1 mm per pixel."
    rows = [(f'{900+i}_HC.png', round(0.1*factor, 6), AROUND*0.1) for i in range(6)]
    hc18(tmp_path/'raw', table(rows).encode(), n=6)
    prepare(tmp_path/'raw', tmp_path/'p', size=(H, W))
    for folder in ('raw', 'p'):
        f = verify(tmp_path/folder).findings
        f = f[f.check == 'size_against_circumference']
        assert len(f) == (6 if finds else 0) and set(f.severity) <= {'warning'}
        if factor == 0.1: assert f.value.str.contains('the size in cm').all()
        if factor == 10: assert f.value.str.contains('the circumference in cm').all()

# --spacing

@pytest.mark.filterwarnings('ignore')
def test_spacing_of_the_user(tmp_path):
    pngs(tmp_path/'raw')
    t = prepare(tmp_path/'raw', tmp_path/'a', size=(H, W), spacing=0.13)
    assert set(t.spacing_row) == set(t.spacing_col) == {0.13} and set(t.spacing_source) == {'user'}
    (tmp_path/'mm.csv').write_text('image;spacing_row;spacing_col\n0.png;0,1;0,2\n3.png;0,3;0,3\n')
    # the table alone is written anew
    t = prepare(tmp_path/'raw', tmp_path/'a', size=(H, W),
                spacing=str(tmp_path/'mm.csv')).set_index('case')
    given = {k: 'user' if k in '03' else '' for k in '012345'}
    assert t.spacing_source.to_dict() == given
    assert (t.spacing_row['0'], t.spacing_col['0'], t.spacing_row['3']) == (0.1, 0.2, 0.3)
    assert np.isnan(t.spacing_row['1'])
    t = prepare(tmp_path/'raw', tmp_path/'a', size=(H, W))
    assert t.spacing_row.isna().all()
    assert 'spacing"' not in (tmp_path/'a'/'prepare.json').read_text()

def test_spacing_through_the_command(tmp_path):
    pngs(tmp_path/'raw')
    r = run('fetal_seg_prepare', tmp_path/'raw', tmp_path/'p', '--size', H, W, '--spacing', '0.2')
    assert r.returncode == 0 and set(read_cases(tmp_path/'p').spacing_row) == {0.2}
    for value, said in (('69.2', 'likely in µm: 0.0692 mm'),
                        ('wide', "'wide' is neither a number nor"),
                        (tmp_path/'no.csv', 'there is no such table')):
        r = run('fetal_seg_prepare', tmp_path/'raw', tmp_path/'q', '--size', H, W, '--spacing',
                value)
        assert r.returncode == 2 and said in r.stderr and 'Traceback' not in r.stderr
        assert not (tmp_path/'q').exists()

@pytest.mark.parametrize(
    'text, said', [('case,spacing\n0,69.2\n', 'the side of a pixel of 0 is 69.2 mm'),
                   ('case,spacing\n0,x\n', 'the side of a pixel of 0 is nan'),
                   ('case,size\n0,0.1\n', 'it needs spacing'),
                   ('name,spacing\n0,0.1\n', 'it needs case'),
                   ('case,spacing\nzz,0.1\n', 'none of its 1 rows names one of the 2 cases')])
def test_spacing_tables_that_cannot_be_used(text, said, tmp_path):
    (tmp_path/'mm.csv').write_text(text)
    cases = pd.DataFrame(dict(case=['0', '1'], image=['0.png', '1.png']))
    with pytest.raises(InputError, match=said): given_spacing(cases, tmp_path/'mm.csv')

def test_who_is_believed_about_spacing():
    "The user before the layout's table before the file; and so, too, when called again."
    cases = rows_of('abcd', header_exam='dicom-1', spacing_row=[0.1, 0.1, 0.1, np.nan],
                    spacing_col=[0.2, 0.2, 0.2, np.nan], pixel_size_mm=[0.3, 0.3, np.nan, np.nan])
    out = add_exams(cases)
    assert out.spacing_source.tolist() == ['layout', 'layout', 'file', '']
    assert out.spacing_row.tolist()[:3] == [0.3, 0.3, 0.1] and out.spacing_col[2] == 0.2
    mine = add_exams(cases, spacing='0.5')
    assert set(mine.spacing_source) == {'user'} and set(mine.spacing_row) == {0.5}
    assert add_exams(mine).spacing_source.tolist() == ['user']*4 and add_exams(out).equals(out)

def test_a_header_with_a_size_that_cannot_be_is_unknown_and_told():
    cases = rows_of('abc', header_exam='dicom-1', spacing_row=[0.1, 69.2, np.nan],
                    spacing_col=[0.1, 69.2, np.nan])
    said = 'of 1 of 3 pictures cannot be.*b: the side of a pixel is 69.2 mm.*likely in µm'
    with pytest.warns(UserWarning, match=said): out = add_exams(cases)
    assert out.spacing_source.tolist() == ['file', '', '']

def test_numbers_as_people_write_them():
    assert [to_number(t) for t in ('0.5', '0,5', ' 7 ', '1e-2')] == [0.5, 0.5, 7, 0.01]
    assert np.isnan([to_number(t) for t in ('', 'x', None, np.nan, '1,000.5')]).all()
    rng = np.random.default_rng(0)
    for mm in 10**rng.uniform(-6, 4, 300):
        if 0.01 <= mm <= 1: assert check_spacing('t', mm) == mm
        else:
            with pytest.raises(InputError, match='must be from 0.01 to 1'): check_spacing('t', mm)

# Several masks of one picture, and what lies beside them

def test_numbered_masks_in_two_folders_are_united(tmp_path):
    left, right = region & (np.arange(W) < W//2), region & (np.arange(W) >= W//2)
    parts = [encoded(m*np.uint8(255), 'PNG') for m in (left, right, right & False)]
    raw = put(tmp_path/'raw', {
        **{f'pictures/{n}.png': PNG for n in ('a', 'b', 'c', 'd_mask_1')},
        **{f'masks/a_mask{e}.png': p for e,p in zip(('', '_1', '_2'), parts)},
        'masks/b_mask_1.png': parts[0], 'masks/b_mask_2.png': parts[1],
        'masks/c.png': MASK, 'masks/d_mask_1.png': MASK})
    cases, left_out = find_cases(raw)
    joined = dict(zip(cases.case, cases.annotation.str.count(r'\|')))
    assert joined == dict(a=2, b=1, c=0, d_mask_1=0) and left_out.empty
    for case in cases.to_dict('records'): assert (read_pair(raw, case)[1] == region).all()
    # a case's picture is one for the list too, whatever its name ends with
    assert find_pictures(raw)[0] == [f'pictures/{n}.png' for n in ('a', 'b', 'c', 'd_mask_1')]

@pytest.mark.parametrize('names', [('a.png', 'a_mask.png'), ('a_mask.png', 'a_label.png'),
                                   ('a_mask.png', 'a_mask.tif'), ('a_mask_1.png', 'a_mask_01.png'),
                                   ('a.png', 'a_mask_1.png')])
def test_two_masks_that_differ_in_more_than_a_number_stay_ambiguous(names, tmp_path):
    put(tmp_path, {'images/a.png': PNG, 'images/b.png': PNG, 'masks/b.png': MASK,
                   **{f'masks/{n}': MASK for n in names}})
    cases, left = find_cases(tmp_path)
    assert cases.case.tolist() == ['b'] and set(left.kind) == {'ambiguous'} and len(left) == 3

DOCUMENTS = {
    'Thumbs.db': b'\xd0\xcf\x11\xe0', 'notes.txt': b'hello', '0.txt': b'0',
    'list.csv': b'a,b\n1,2\n', 'README': b'# About', 'README.md': b'#', '.DS_Store': b'x',
    'broken.json': b'{bad', 'x.xml': b'<a>', 'z.pdf': b'%PDF', 'desktop.ini': b'[a]',
    'hc.xlsx': b'PK'
}

@pytest.mark.parametrize(
    'layout', ['images/{}.png masks/{}.png', '{}.png {}_mask.png', '{}.png {}_Annotation.png'])
def test_documents_beside_masks_are_counted_and_named_once(layout, tmp_path):
    image, mask = layout.split()
    files = {mask.format('n').rpartition('n')[0] + n: d for n,d in DOCUMENTS.items()}
    put(pngs(tmp_path/'raw', image, mask), files)
    cases, left = find_cases(tmp_path/'raw')
    assert len(cases) == 6 and sorted(left.file) == sorted(files) and set(left.kind) == {'foreign'}
    said = run('fetal_seg_prepare', tmp_path/'raw', tmp_path/'p', '--size', H, W)
    lines = [l for l in said.stdout.splitlines() if l.startswith('left out')]
    assert said.returncode == 0 and len(lines) == 1
    assert f'and {len(files)-3} more: this is no picture' in lines[0]
    found = verify(tmp_path/'raw').findings
    assert sorted(found.case[found.check == 'foreign_file']) == sorted(files)

def test_a_study_without_a_patient_is_an_exam_and_told(tmp_path):
    def checks(folder): return set(verify(tmp_path/folder).findings.check)
    for i in range(8):
        scan = dicom(picture(i), StudyInstanceUID=f'1.2.276.{i//2}')
        put(tmp_path/'raw', {f'images/{i}.dcm': scan, f'masks/{i}.png': MASK})
    said = 'The exam of 8 of 8 cases is the study .* names no patient: .* --exams'
    with pytest.warns(UserWarning, match=said):
        cases = prepare(tmp_path/'raw', tmp_path/'p', size=(H, W))
    assert cases.exam.nunique() == 4 and set(cases.exam_source) == {'dicom'}
    assert cases.exam.str.fullmatch('dicom-study-[0-9a-f]{16}').all()
    assert cases.groupby('exam').split.nunique().max() == 1
    assert 'exam_by_study' in checks('raw') & checks('p')
    for i in range(8):
        scan = dicom(picture(i), PatientID=f'P{i//2}', StudyInstanceUID=f'1.2.276.{i}')
        put(tmp_path/'raw', {f'images/{i}.dcm': scan})
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='The exam of')
        again = prepare(tmp_path/'raw', tmp_path/'q', size=(H, W))
    assert again.exam.nunique() == 4 and 'exam_by_study' not in checks('raw')
