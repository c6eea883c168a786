"""How large a picture may be, and whether it is whole: files that promise too much, files that are
none, damage, and the memory that one picture takes."""
import base64, gzip, json, os, socket, struct, subprocess, sys, time, zlib
from io import BytesIO
from pathlib import Path
import numpy as np, pytest
from PIL import Image, ImageFile
from fetal_seg import bounds, geometry
from fetal_seg.core import InputError
from fetal_seg.exchange import read_document
from fetal_seg.geometry import fit_affine, warp
from fetal_seg.images import read_img, read_picture
from fetal_seg.labels import read_annotation
from fetal_seg.phantom import simulate

def encode(a, kind, **kw):
    f = BytesIO()
    (Image.fromarray(a) if isinstance(a, np.ndarray) else a).save(f, kind, **kw)
    return f.getvalue()

def refused(call, *needles, seconds=5):
    "One line, at once."
    start = time.monotonic()
    with pytest.raises(InputError) as e: call()
    said = str(e.value)
    assert '\n' not in said and len(said) < 500, said
    assert time.monotonic() - start < seconds
    for n in needles: assert n in said, said
    return said

img = simulate(7, shape=(54,80))[0]

# What is no file

def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path/'pipe.png')
    os.symlink('/dev/zero', tmp_path/'device.png')
    (tmp_path/'folder.png').mkdir()
    s = socket.socket(socket.AF_UNIX)
    at = os.getcwd()
    os.chdir(tmp_path)   # the path of a socket must be short
    s.bind('socket.png')
    os.chdir(at)
    for kind in ('pipe', 'device', 'folder', 'socket'):
        for read in (read_img, read_annotation):
            refused(lambda: read(tmp_path/f'{kind}.png'), f'this is a {kind}', 'cannot be read')
    os.mkfifo(tmp_path/'a.json')
    refused(lambda: read_document(tmp_path/'a.json'), 'this is a pipe')
    s.close()

def test_limits_are_raised_and_lowered_by_the_environment(tmp_path, monkeypatch):
    (tmp_path/'a.png').write_bytes(encode(img, 'PNG'))
    monkeypatch.setenv('FETAL_SEG_MAX_PIXELS', '4319')
    refused(lambda: read_img(tmp_path/'a.png'), '80x54, more than 4,319 pixels',
            'set FETAL_SEG_MAX_PIXELS')
    monkeypatch.setenv('FETAL_SEG_MAX_PIXELS', '4320')
    assert (read_img(tmp_path/'a.png') == img).all()
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)   # what the user has said holds
    assert (read_img(tmp_path/'a.png') == img).all() and Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.delenv('FETAL_SEG_MAX_PIXELS')
    refused(lambda: read_img(tmp_path/'a.png'), 'more than 10 pixels')
    monkeypatch.setenv('FETAL_SEG_MAX_BYTES', '100')
    refused(lambda: read_img(tmp_path/'a.png'), 'more than 100', 'set FETAL_SEG_MAX_BYTES')
    for bad in ('0', '-3', 'many', '1e9', '9'*30):
        monkeypatch.setenv('FETAL_SEG_MAX_BYTES', bad)
        refused(lambda: read_img(tmp_path/'a.png'), 'FETAL_SEG_MAX_BYTES: ', 'no whole number')

def test_strips_are_no_pictures(monkeypatch):
    for shape in ((1, 30000), (30000, 1)):
        data = encode(np.zeros(shape, np.uint8), 'PNG')
        refused(lambda: read_picture('a.png', data), 'one side is more than 100 times the other',
                'FETAL_SEG_MAX_ASPECT')
        monkeypatch.setenv('FETAL_SEG_MAX_ASPECT', '30000')
        assert read_picture('a.png', data).pixels.shape == shape
        monkeypatch.delenv('FETAL_SEG_MAX_ASPECT')
    assert read_picture('a.png', encode(np.zeros((2, 1500), np.uint8), 'PNG')).pixels.size == 3000

# What unpacks to more than there is room for

def chunk(name, data): return struct.pack('>I', len(data)) + name + data + struct.pack(
    '>I', zlib.crc32(name + data))

def png_with(*chunks):
    "A PNG with parts behind its header."
    data = encode(img, 'PNG')
    return data[:33] + b''.join(chunk(*c) for c in chunks) + data[33:]

BOMB = zlib.compress(bytes(30_000_000), 9)

def mha(body, size, packed=True):
    head = ['ObjectType = Image', 'NDims = 2', 'BinaryData = True', f'CompressedData = {packed}',
            f'CompressedDataSize = {len(body)}', f'DimSize = {size[1]} {size[0]}',
            'ElementType = MET_UCHAR', 'ElementDataFile = LOCAL']
    return '\n'.join(head).encode() + b'\n' + body

def nrrd(body, size):
    head = ['NRRD0004', 'type: uint8', 'dimension: 2', f'sizes: {size[1]} {size[0]}',
            'encoding: gzip']
    return '\n'.join(head).encode() + b'\n\n' + body

def dicom(a=img, syntax='1.2.840.10008.1.2.1', pixels=None, **tags):
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = '1.2.840.10008.5.1.4.1.1.6.1'
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = '1.2.3'
    own = dict(Rows=a.shape[0], Columns=a.shape[1], SamplesPerPixel=1, BitsAllocated=8,
               BitsStored=8, HighBit=7, PixelRepresentation=0,
               PhotometricInterpretation='MONOCHROME2')
    for k,v in (own | tags).items(): setattr(ds, k, v)
    ds.PixelData = a.tobytes() if pixels is None else pixels
    f = BytesIO()
    pydicom.dcmwrite(f, ds, enforce_file_format=True)
    return f.getvalue()

def bombs():
    sitk = pytest.importorskip('SimpleITK')
    yield 'text.png', png_with((b'zTXt', b'a\0\0' + BOMB)), 'cannot be decoded'
    yield 'text2.png', png_with((b'iTXt', b'a\0\1\0\0\0' + BOMB)), 'cannot be decoded'
    yield 'parts.png', png_with(*[(b'teSt', b'')]*100_001), 'more than 100,000 parts'
    yield 'a.nii.gz', gzip.compress(bytes(344) + b'n+1\0' + bytes(30_000_000), 1), 'unpacks to'
    yield 'a.mha', mha(BOMB, img.shape), 'unpacks to more than 20,000,000 bytes'
    packed = zlib.compressobj(9, wbits=31)
    yield 'a.nrrd', nrrd(packed.compress(bytes(30_000_000)) + packed.flush(), img.shape), 'unpacks'
    yield 'many.mha', mha(zlib.compress(bytes(9)), (90000, 90000)), 'more than 25,000,000 pixels'
    bare = zlib.compressobj(9, wbits=-15)
    whole = dicom()
    meta = 144 + struct.unpack('<I', whole[140:144])[0]
    head = dicom(syntax='1.2.840.10008.1.2.1.99')
    head = head[:144 + struct.unpack('<I', head[140:144])[0]]
    body = bare.compress(whole[meta:] + bytes(30_000_000)) + bare.flush()
    yield 'deflated.dcm', head + body, 'unpacks to more than'
    from pydicom.encaps import encapsulate
    large = encode(np.zeros((3000, 3000), np.uint8), 'JPEG2000', no_jp2=True)
    yield 'stream.dcm', dicom(syntax='1.2.840.10008.1.2.4.90',
                              pixels=encapsulate([large])), 'cannot be decoded'
    j2k = bytearray(encode(np.zeros((3000, 3000), np.uint8), 'JPEG2000', no_jp2=True))
    j2k[24:32] = struct.pack('>2I', 16, 16)
    yield 'tiles.j2k', bytes(j2k), 'more than 10,000 tiles'
    jpeg = encode(img, 'JPEG', progressive=True)
    last = jpeg.rfind(b'\xff\xda')
    yield 'scans.jpg', jpeg[:last] + jpeg[last:-2]*200 + b'\xff\xd9', 'more than 100 scans'
    pages = b'II*\0\x08\0\0\0' + b''.join(struct.pack('<HI', 0, 14 + 6*k) for k in range(5000))
    yield 'pages.tif', pages, 'more than 1000 pages'
    tif = bytearray(encode(img, 'TIFF'))
    at = bytes(tif).find(struct.pack('<HH', 273, 4))
    tif[at+4:at+8] = struct.pack('<I', 50_000_000)
    yield 'list.tif', bytes(tif), 'a list of more than 1,000,000 numbers'
    yield 'huge.npy', b'\x93NUMPY\1\0' + struct.pack('<H', 118) + (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (90000, 90000), }").ljust(
            117) + b'\n', 'decoded'

def test_bombs_are_one_line(monkeypatch):
    monkeypatch.setenv('FETAL_SEG_MAX_BYTES', '20000000')
    for name, data, needle in bombs(): refused(lambda: read_picture(name, data), needle)

def test_a_deflated_dicom_of_a_sane_size_is_read():
    whole = dicom()
    meta = 144 + struct.unpack('<I', whole[140:144])[0]
    head = dicom(syntax='1.2.840.10008.1.2.1.99')
    head = head[:144 + struct.unpack('<I', head[140:144])[0]]
    bare = zlib.compressobj(9, wbits=-15)
    body = bare.compress(whole[meta:]) + bare.flush()
    assert (read_picture('a.dcm', head + body).pixels == img).all()

# The letterbox

def test_scaling_in_strips_gives_the_same_picture(monkeypatch):
    "But for the rounding of float32 between the passes; values are up to 255."
    rng, strips = np.random.default_rng(0), 0
    for k in range(120):
        h, w, H, W = (int(n) for n in 1 + 2**(rng.random(4)*8))
        a = rng.integers(0, 256, (h,w)).astype((np.uint8, np.float32)[k % 2])
        affine = fit_affine((h,w), (H,W), ('letterbox', 'auto', 'crop')[k % 3])
        for outside in (0, None, 0.5):
            found = []
            for most in (2**40, 1, 3000):
                monkeypatch.setattr(geometry, 'ONE_CALL', most)
                found.append(warp(a, affine, (H,W), outside))
                assert found[-1].shape == (H,W) and found[-1].dtype == found[0].dtype
            strips += not np.array_equal(found[0], found[1])
            for f in found[1:]: np.testing.assert_allclose(f, found[0], rtol=0, atol=1e-4)
    assert strips   # or it never went that way

# Damage

def flips(data, n, rng):
    for _ in range(n):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        yield bytes(bad)

rgba = np.random.default_rng(1).integers(0, 256, (20, 30, 4)).astype(np.uint8)
checked = {
    'PNG': encode(img, 'PNG'), 'PNG, RGBA': encode(rgba, 'PNG'),
    'PNG, palette': encode(Image.fromarray(img).quantize(9), 'PNG', transparency=3),
    'PNG, 16 bits': encode(img.astype(np.uint16)*257, 'PNG'),
    'MetaImage, packed': mha(zlib.compress(img.tobytes()), img.shape)}
unchecked = {'JPEG': encode(img, 'JPEG'), 'TIFF': encode(img, 'TIFF'), 'BMP': encode(img, 'BMP'),
             'TIFF, LZW': encode(img, 'TIFF', compression='tiff_lzw'),
             'TIFF, deflate': encode(img, 'TIFF', compression='tiff_deflate'),
             'GIF': encode(img, 'GIF'), 'WEBP': encode(img, 'WEBP'), 'PPM': encode(img, 'PPM')}

@pytest.mark.parametrize('kind', [*checked, *unchecked])
def test_one_bit_flipped(kind):
    "Where there is a checksum, never other pixels; elsewhere a picture or one line."
    data, wrong = (checked | unchecked)[kind], 0
    name = 'a.mha' if 'Meta' in kind else 'a.png'
    if 'Meta' in kind: pytest.importorskip('SimpleITK')
    whole = read_picture(name, data).pixels
    for bad in flips(data, 400, np.random.default_rng(0)):
        try: a = read_picture(name, bad).pixels
        except InputError as e: assert '\n' not in str(e)
        else: wrong += not np.array_equal(a, whole)
    # a header without a checksum may say another size, and does
    if kind.startswith('PNG'): assert wrong == 0
    if kind == 'MetaImage, packed': assert wrong <= 4

def test_the_pixels_of_a_packed_tiff_are_checked():
    data = encode(img, 'TIFF', compression='tiff_deflate')
    im = Image.open(BytesIO(data))
    at, n = im.tag_v2[273][0], im.tag_v2[279][0]
    for k in range(at, at + n):
        bad = bytearray(data)
        bad[k] ^= 4
        try: assert (read_picture('a.tif', bytes(bad)).pixels == img).all()
        except InputError: pass

@pytest.mark.parametrize('truncated_allowed', [False, True])
def test_a_png_without_its_end(truncated_allowed, monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', truncated_allowed)
    data = encode(img, 'PNG')
    for n in (1, 4, 12, 13, 40, len(data)//2):
        refused(lambda: read_picture('a.png', data[:-n]), 'truncated', 'download or copy it again')
    assert ImageFile.LOAD_TRUNCATED_IMAGES == truncated_allowed
    assert (read_picture('a.png', data + b'trailing bytes').pixels == img).all()

big, head, _ = simulate(5, shape=(200,304))
jpegs = dict(L=encode(big, 'JPEG'), RGB=encode(np.dstack([big]*3), 'JPEG', subsampling=2),
             CMYK=encode(Image.fromarray(big).convert('CMYK'), 'JPEG'),
             progressive=encode(big, 'JPEG', progressive=True),
             restarts=encode(big, 'JPEG', restart_marker_rows=2))

@pytest.mark.parametrize('kind', jpegs)
@pytest.mark.parametrize('truncated_allowed', [False, True])
def test_a_cut_jpeg(kind, truncated_allowed, monkeypatch):
    "With its end, or with an end mark put behind the cut, as repairing programs do."
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', truncated_allowed)
    data = jpegs[kind]
    read_picture('a.jpg', data)
    start = data.find(b'\xff\xda') + 20
    for share in (0.05, 0.2, 0.5, 0.8, 0.95):
        cut = data[:start + int((len(data) - start)*share)]
        refused(lambda: read_picture('a.jpg', cut), 'truncated')
        refused(lambda: read_picture('a.jpg',
                                     cut.rstrip(b'\xff') + b'\xff\xd9'), 'cannot be decoded')

def test_a_jpeg_that_is_grey_below_is_whole():
    a = np.full((64, 80), 128, np.uint8)
    a[:20] = 200
    for kw in ({}, dict(progressive=True), dict(restart_marker_blocks=1)):
        assert np.abs(
            read_picture('a.jpg', encode(a, 'JPEG', quality=95, **kw)).pixels -
            a.astype(int)).max() < 9
    assert read_picture('a.jpg', encode(np.dstack([a]*3), 'JPEG') + b'\0\0').pixels.shape == a.shape

# Masks and documents

def test_nan_in_a_mask_is_no_region(tmp_path):
    a = np.zeros((9, 9), np.float32)
    a[2:5, 2:5] = 1
    for bad in (np.nan, np.inf):
        b = a.copy()
        b[0, 0] = bad
        np.save(tmp_path/'a.npy', b)
        said = refused(lambda: read_annotation(tmp_path/'a.npy'), '1 pixels are NaN or infinite')
        assert '--region' not in said
        (tmp_path/'a.tif').write_bytes(encode(b, 'TIFF'))
        refused(lambda: read_annotation(tmp_path/'a.tif'), '1 pixels are NaN or infinite')
    np.save(tmp_path/'a.npy', a)
    assert (read_annotation(tmp_path/'a.npy') == (a > 0)).all()

def labelme(*shapes): return dict(imagePath='a.png', shapes=list(shapes), imageData=None)
def drawn(points, kind='polygon', **kw):
    return dict(label='a', points=points, shape_type=kind, **kw)
def coco(segmentation, size=(10, 10)):
    return dict(images=[dict(id=1, file_name='a.png', height=size[0], width=size[1])],
                annotations=[dict(id=1, image_id=1, category_id=1, segmentation=segmentation)],
                categories=[dict(id=1, name='a')])
def cvat(shape): return f'<annotations><image id="0" name="a.png">{shape}</image></annotations>'

def large_png(): return base64.b64encode(encode(Image.new('1', (6000, 6000)), 'PNG')).decode()
triangle = [[0,0], [9,0], [9,9]]
documents = {
    'a polygon of many points': lambda:
    (labelme(drawn([[k % 9, k % 7]
                    for k in range(100_001)])), 'more than 100,000'), 'many shapes': lambda:
    (labelme(*[drawn(triangle)]*10_001), '10,001 shapes'), 'a coordinate of 1e12': lambda:
    (labelme(drawn([[0, 0], [1e12, 0], [9, 9]])), 'the coordinate 1000000000000'),
    'a coordinate of NaN': lambda:
    (labelme(drawn([[0, 0], [float('nan'), 0], [9, 9]])), 'the coordinate nan'),
    'a whole number of 400 digits': lambda:
    (labelme(drawn([[0, 0], [10**400, 0], [9, 9]])), 'no number'), 'an embedded mask': lambda:
    (labelme(drawn([[0, 0], [9, 9]], 'mask', mask=large_png())), 'more than 25,000,000 pixels'),
    'run lengths': lambda: (coco(dict(size=[900000, 900000], counts=[900000]*900000),
                                 (900000, 900000)), 'more than 25,000,000'),
    'packed run lengths': lambda: (coco(dict(size=[900000, 900000], counts='ooooo'),
                                        (900000, 900000)), 'more than 25,000,000'),
    'packed run lengths beyond the mask': lambda:
    (coco(dict(size=[10, 10], counts='oooooo0')), 'unpacked'), 'depth': lambda:
    ('['*100_000, 'no JSON'), 'width': lambda:
    ('[' + '[],'*4_000_001 + '0]', 'more than 4,000,000 elements'), 'xml, width': lambda:
    (cvat('<a/>'*4_000_001), 'more than 4,000,000 elements'), 'xml, depth': lambda:
    (cvat('<a>'*101 + '</a>'*101), '100 in each other'), 'xml, laughs': lambda:
    ('<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>',
     'document type'), 'xml, a file': lambda:
    ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotations>&b;'
     '</annotations>', 'document type'), 'xml, a mask': lambda:
    (cvat('<mask label="a" left="0" top="0" width="900000" height="900000" rle="1"/>'),
     'run lengths'), 'csv': lambda:
    ('filename,region_shape_attributes,region_attributes\n' + 'a'*200_000 + ',,\n', 'no CSV'),
    'csv, depth': lambda: ('filename,region_shape_attributes,region_attributes\na.png,' + '['*
                           100_000 + ',{}\n', 'no JSON')
}

@pytest.mark.parametrize('name', documents)
def test_documents_that_promise_too_much(tmp_path, name, monkeypatch):
    doc, needle = documents[name]()
    if 'packed' in name: pytest.importorskip('pycocotools')
    suffix = name[:3] if name[:3] in ('xml', 'csv') else 'json'
    file = tmp_path/f'a.{suffix}'
    file.write_text(doc if isinstance(doc, str) else json.dumps(doc))
    refused(lambda: read_document(file), needle, seconds=20)

def test_the_size_of_a_document_and_its_masks_are_bounded(tmp_path, monkeypatch):
    file = tmp_path/'a.json'
    file.write_text(json.dumps(coco(dict(size=[10, 10], counts=[50, 50]))))
    assert read_document(file).entries['1'].shapes[0].data[2].sum() == 50
    monkeypatch.setenv('FETAL_SEG_MAX_MASKS', '99')
    os.utime(file, (1, 1))
    refused(lambda: read_document(file), 'more than 99 pixels together', 'FETAL_SEG_MAX_MASKS')
    monkeypatch.setenv('FETAL_SEG_MAX_DOCUMENT', '99')
    os.utime(file, (2, 2))
    refused(lambda: read_document(file), 'more than 99', 'FETAL_SEG_MAX_DOCUMENT')

# Memory

MEASURE = '''
import resource, sys
from pathlib import Path
import numpy as np
from fetal_seg.images import read_img
from fetal_seg.preprocess import prepare
from fetal_seg.verify import verify
raw, out, weights = map(Path, sys.argv[1:4])
predictor = None
if weights.name != 'none':
    from fetal_seg.predict import Predictor, predict_files
    predictor = Predictor(weights)
    predictor(np.zeros((54, 80), np.uint8))
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
base = peak()
(image,) = (raw/'images').iterdir()
prepare(raw, out/'prepared', fractions=(0, 0, 1.), annotation='filled')
verify(out/'prepared')
if predictor: predict_files(predictor, [image], out/'results')
print(peak() - base)
'''

def gib_above_the_base(folder, shape, kind, weights='none', **kw):
    "Peak memory of one case, from the file to the prepared folder, or to its overlay."
    small = np.random.default_rng(0).integers(0, 256, [n//8 + 1 for n in shape]).astype(np.uint8)
    a = np.kron(small, np.ones((8,8), np.uint8))[:shape[0], :shape[1]]
    mask = np.zeros(shape, np.uint8)
    mask[shape[0]//4:-shape[0]//4, shape[1]//4:-shape[1]//4] = 255
    for d in ('images', 'masks'): (folder/'raw'/d).mkdir(parents=True)
    im = Image.fromarray(mask)
    (im if kind == 'png' else im.convert('RGB')).save(folder/'raw/masks/a.png')
    if kind == 'npy': np.save(folder/'raw/images/a.npy', a*256.)
    else: Image.fromarray(a).convert('L' if kind == 'png' else 'RGB').save(
        folder/f'raw/images/a.{kind}', **kw)
    del a, mask, im
    p = subprocess.run([sys.executable, '-W', 'ignore', '-c', MEASURE, folder/'raw', folder/'out',
                        weights], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    return float(p.stdout)

@pytest.mark.parametrize('shape, kind', [((5000, 5000), 'png'), ((500, 50000), 'png')])
def test_one_picture_at_the_limit_takes_less_than_a_gibibyte(tmp_path, shape, kind):
    assert gib_above_the_base(tmp_path, shape, kind) < 1

@pytest.mark.slow
def test_its_prediction_and_overlay_too(tmp_path):
    pytest.importorskip('torch')
    from fetal_seg.core import SHIPPED
    assert gib_above_the_base(tmp_path, (5000, 5000), 'png', SHIPPED) < 1

@pytest.mark.slow
@pytest.mark.parametrize('shape, kind', [((50000, 500), 'png'), ((5000, 5000), 'jp2'),
                                         ((5000, 5000), 'npy'), ((4000, 6000), 'jpg'),
                                         ((5000, 5000), 'webp'), ((5000, 5000), 'tif')])
def test_so_do_other_shapes_and_formats(tmp_path, shape, kind):
    assert gib_above_the_base(tmp_path, shape, kind) < 1

@pytest.mark.slow
def test_a_strip_of_30000_pixels_takes_no_more(tmp_path, monkeypatch):
    "Where the limit of the sides is raised."
    monkeypatch.setenv('FETAL_SEG_MAX_ASPECT', '30000')
    for n, shape in enumerate(((4, 30000), (30000, 4))):
        assert gib_above_the_base(tmp_path/str(n), shape, 'png') < 0.5
