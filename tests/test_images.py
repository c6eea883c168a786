"""Any picture a user has: a matrix of modes, formats and orientations, DICOM, damage, privacy,
intensity. The expected values are computed here, in numpy."""
import logging, pickle, re, struct, sys, warnings, zlib
from io import BytesIO
from pathlib import Path
import numpy as np, pytest
from PIL import Image, TiffImagePlugin
from fetal_seg.core import InputError, NotFoundError
from fetal_seg.images import (INTENSITIES, SUFFIXES, TAGS, Picture, dhash, read_img, read_picture,
                              read_values, scale_intensity, to_float, to_uint8)

rng = np.random.default_rng(0)

def encode(im, kind, **kw):
    "The bytes of a picture file."
    f = BytesIO()
    (Image.fromarray(im) if isinstance(im, np.ndarray) else im).save(f, kind, **kw)
    return f.getvalue()

def read(data, name='a.png'):
    "Read bytes; whatever comes out has the promised shape and type, and no warning is given."
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter('always')
        p = read_picture(name, data)
    assert not given, given[0].message
    assert isinstance(p, Picture) and p.bits in (1, 8, 16) and len(p.spacing) == 2
    assert p.pixels.ndim == 2 and p.pixels.size and p.pixels.flags.c_contiguous
    assert p.pixels.dtype == (np.uint16 if p.bits == 16 else np.uint8)
    return p

def refused(data, *needles, name='a.png'):
    "One clear line: the file, what was found, the remedy; no object addresses, no warning."
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter('always')
        with pytest.raises(InputError) as e: read_picture(name, data)
    assert not given, given[0].message
    said = str(e.value)
    assert said.startswith(f'{name}: ') and '\n' not in said and ';' in said, said
    assert len(said) < 400 and not re.search(r'0x[0-9a-f]{6}|<.*object', said), said
    for n in needles: assert n in said, said
    return said

def near(got, exact, tol):
    "Is each value within `tol` of the exact one?"
    assert got.shape == exact.shape
    worst = np.abs(got.astype(float) - exact).max()
    assert worst <= tol, worst

def luma(rgb): return np.asarray(rgb, float) @ [0.299, 0.587, 0.114]

# Modes. Each entry: a picture, the exact grey values it must have, how far rounding may be off,
# bits as reported.

shape = (5, 7)
colour = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
alpha = rng.integers(0, 256, shape).astype(np.uint8)
grey = rng.integers(0, 256, shape).astype(np.uint8)
deep = rng.integers(0, 65536, shape).astype(np.uint16)
index = rng.integers(0, 6, shape).astype(np.uint8)
palette = rng.integers(0, 256, (6, 3))
opacity = np.array([0, 30, 255, 128, 7, 255])
R, A = 0.51, 1.01     # rounding of the luma; of the luma and of the product with alpha

def paletted(transparency=None):
    im = Image.fromarray(index)
    im = im.convert('P')
    im.putpalette(palette.astype(np.uint8).tobytes())
    if transparency is not None: im.info['transparency'] = transparency
    return im

modes = {
    '1': (Image.fromarray(grey > 99), (grey > 99)*255., 0, 1),
    'L': (Image.fromarray(grey), grey*1., 0, 8),
    'LA': (Image.fromarray(np.dstack([grey, alpha])), grey*(alpha/255), 0.5, 8),
    'RGB': (Image.fromarray(colour), luma(colour), R, 8),
    'RGBA': (Image.fromarray(np.dstack([colour, alpha])), luma(colour)*alpha/255, A, 8),
    'P': (paletted(), luma(palette)[index], R, 8),
    'P, one entry transparent': (paletted(3), np.where(index == 3, 0, luma(palette)[index]), R, 8),
    'P, all entries with alpha':
        (paletted(bytes(opacity.tolist())), (luma(palette)*opacity/255)[index], A, 8),
    'I;16': (Image.fromarray(deep), deep*1., 0, 16),
    'CMYK': (Image.fromarray(np.dstack([255 - colour, 0*grey]), 'CMYK'), luma(colour), R, 8),
    'YCbCr': (Image.fromarray(colour).convert('YCbCr'), luma(colour), 1, 8),
}
# older Pillows read fewer kinds of TIFF
known = {v[0] for v in TiffImagePlugin.OPEN_INFO.values()}
holds = dict(
    GIF=['L', 'P'], PPM=['1', 'L', 'RGB', 'I;16'], JPEG2000=['L', 'RGB'],
    PNG=[k for k in modes if k not in ('CMYK', 'YCbCr')],
    TIFF=['1', 'L', 'LA', 'RGB', 'RGBA', 'P', 'I;16', 'CMYK'] + ['YCbCr']*('YCbCr' in known),
    BMP=['1', 'L', 'RGB', 'P'], WEBP=['L', 'RGB', 'RGBA'])
options = dict(WEBP=dict(lossless=True, exact=True))

@pytest.mark.parametrize('kind, mode', [(k, m) for k,ms in holds.items() for m in ms])
def test_modes_in_formats_without_loss(kind, mode):
    im, exact, tol, bits = modes[mode]
    p = read(encode(im, kind, **options.get(kind, {})))
    near(p.pixels, exact, tol)
    assert p.bits == bits and np.isnan(p.spacing).all()
    # an older Pillow calls a 16-bit PNG I
    if kind not in ('WEBP', 'GIF'):
        assert p.mode in ({'I;16', 'I'} if bits == 16 else {mode.split(',')[0]})

# the sides at which the stored row 0 and column 0 are seen
sides = {1: ('top', 'left'), 2: ('top', 'right'), 3: ('bottom', 'right'), 4: ('bottom', 'left'),
         5: ('left', 'top'), 6: ('right', 'top'), 7: ('right', 'bottom'), 8: ('left', 'bottom')}

def as_stored(a, orientation):
    "An upright picture as it lies in the file, pixel by pixel, by the definition."
    (h, w), turned = a.shape[:2], orientation >= 5
    out = np.zeros((w, h, *a.shape[2:]) if turned else a.shape, a.dtype)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            at = {}
            for side,k in zip(sides[orientation], (r, c)):
                axis = 'y' if side in ('top', 'bottom') else 'x'
                at[axis] = dict(top=k, left=k, bottom=h-1-k, right=w-1-k)[side]
            out[r, c] = a[at['y'], at['x']]
    return out

def exif(orientation):
    e = Image.Exif()
    e[274] = orientation
    return e

@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind, mode', [(k, m) for k in ('PNG', 'TIFF', 'WEBP') for m in holds[k]])
def test_orientations(kind, mode, orientation):
    im, exact, tol, _ = modes[mode]
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = im if turn is None else im.transpose(turn)
    # Pillow's turn is the definition's
    assert (np.asarray(stored) == as_stored(np.asarray(im), orientation)).all()
    stored.info |= im.info
    data = encode(stored, kind, exif=exif(orientation), **options.get(kind, {}))
    near(read(data).pixels, exact, tol)

@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
def test_jpeg_of_flat_blocks(mode, orientation):
    "JPEG keeps flat blocks of 16x16 pixels but for rounding."
    im, exact, _, _ = modes[mode]
    a = as_stored(np.asarray(im), orientation)
    one = np.ones((16, 16, 1)[:a.ndim], np.uint8)
    blocks = Image.fromarray(np.kron(a, one), mode)
    p = read(encode(blocks, 'JPEG', quality=100, subsampling=0, exif=exif(orientation)))
    near(p.pixels, np.kron(exact, np.ones((16,16))), 0.5 if mode == 'L' else 3)
    assert p.mode == mode

@pytest.mark.parametrize('value', [0, 9, 65535])
def test_an_orientation_that_makes_no_sense_is_none(value):
    assert (read(encode(grey, 'PNG', exif=exif(value))).pixels == grey).all()
    assert (read(encode(grey, 'PNG', exif=b'Exif\0\0nonsense')).pixels == grey).all()

# Files written by hand, byte by byte, since Pillow writes no such ones.

def png(depth, colour_type, rows, *chunks, size=None):
    "A PNG: rows of sample values, packed to `depth` bits."
    def chunk(name, data):
        check = struct.pack('>I', zlib.crc32(name + data))
        return struct.pack('>I', len(data)) + name + data + check
    rows = np.asarray(rows)
    per = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    bits = (rows.reshape(len(rows), -1)[..., None] >> np.arange(depth)[::-1]) & 1
    data = b''.join(b'\0' + np.packbits(r.astype(np.uint8)).tobytes()
                    for r in bits.reshape(len(rows), -1))
    w, h = size or (rows.reshape(len(rows), -1).shape[1]//per, len(rows))
    head = struct.pack('>IIBBBBB', w, h, depth, colour_type, 0, 0, 0)
    parts = [(b'IHDR', head), *chunks, (b'IDAT', zlib.compress(data)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*c) for c in parts)

@pytest.mark.parametrize('depth', [1, 2, 4, 8, 16])
def test_grey_png_of_any_depth(depth):
    v = rng.integers(0, 2**depth, shape)
    p = read(png(depth, 0, v))
    assert p.bits == {1: 1, 16: 16}.get(depth, 8)
    near(p.pixels, v * ((65535 if depth == 16 else 255) / (2**depth - 1)), 0)

@pytest.mark.parametrize('depth', [1, 2, 4, 8])
def test_palette_png_of_any_depth(depth):
    v = rng.integers(0, min(6, 2**depth), shape)
    colours = b'PLTE', palette.astype(np.uint8).tobytes()
    near(read(png(depth, 3, v, colours)).pixels, luma(palette)[v], R)

def test_png_with_a_transparent_colour():
    def clear(*v): return b'tRNS', struct.pack('>' + 'H'*len(v), *map(int, v))
    for depth, a in ((8, grey), (16, deep)):
        v = a[1, 2]
        near(read(png(depth, 0, a, clear(v))).pixels, np.where(a == v, 0, a), 0)
    seen = np.where((colour == colour[1, 2]).all(-1), 0, luma(colour))
    near(read(png(8, 2, colour, clear(*colour[1, 2]))).pixels, seen, R)

def test_colour_png_of_16_bits_keeps_the_upper_8():
    v = rng.integers(0, 65536, (*shape, 3))
    p = read(png(16, 2, v))
    near(p.pixels, luma(v >> 8), R)
    a = rng.integers(0, 65536, shape)
    near(read(png(16, 4, np.dstack([deep, a]))).pixels, (deep >> 8)*(a >> 8)/255, 0.5)
    assert p.bits == 8

def tiff(a, bits, photometric=1, sample=1, order='<', data=None):
    "A TIFF of one strip."
    data = a.astype(a.dtype.newbyteorder(order)).tobytes() if data is None else data
    tags = [(256, a.shape[1]), (257, a.shape[0]), (258, bits), (259, 1), (262, photometric),
            (273, 8), (277, 1), (278, a.shape[0]), (279, len(data)), (339, sample)]
    def entry(tag, v):
        if tag in (273, 279): return struct.pack(order + 'HHII', tag, 4, 1, v)
        return struct.pack(order + 'HHIHH', tag, 3, 1, v, 0)
    ifd = struct.pack(order + 'H', len(tags)) + b''.join(entry(*t) for t in tags) + bytes(4)
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8 + len(data))
    return head + data + ifd

def test_tiff_of_16_and_12_bits():
    near(read(tiff(deep, 16)).pixels, deep, 0)
    near(read(tiff(deep, 16, order='>')).pixels, deep, 0)
    near(read(tiff(deep, 16, photometric=0)).pixels, 65535. - deep, 0)                 # 0 is white
    near(read(tiff(grey, 8, photometric=0)).pixels, 255. - grey, 0)
    # dark: nowhere near 4095
    v = rng.integers(0, 300, (5, 8))
    bits = ((v[..., None] >> np.arange(12)[::-1]) & 1).astype(np.uint8)
    packed = np.packbits(bits.reshape(5, -1), axis=1)
    p = read(tiff(v.astype(np.uint16), 12, data=packed.tobytes()))
    near(p.pixels, v*(65535/4095), 0.5)
    assert p.bits == 16

@pytest.mark.skipif('La' not in known, reason='this Pillow knows no such TIFF')
def test_tiff_with_alpha_that_is_multiplied_already():
    "Grey and alpha, ExtraSamples 1: the grey lies over black as it is."
    pair = np.dstack([np.minimum(grey, alpha), alpha])
    data = tiff(pair[..., 0], 8, data=pair.tobytes())
    changes = [((258, 3, 1, 8, 0), (258, 3, 2, 8, 8)), ((277, 3, 1, 1, 0), (277, 3, 1, 2, 0)),
               ((339, 3, 1, 1, 0), (338, 3, 1, 1, 0))]
    for was, now in changes:
        data = data.replace(struct.pack('<HHIHH', *was), struct.pack('<HHIHH', *now))
    p = read(data)
    near(p.pixels, pair[..., 0], 0)
    assert p.mode == 'La'

def test_wide_types_only_with_the_range_of_16_bits():
    for a, bits, sample in ((deep.astype(np.int32), 32, 2), (deep.astype(np.uint32), 32, 1),
                            (deep.astype(np.float32), 32, 3), ((deep//2).astype(np.int16), 16, 2)):
        p = read(tiff(a, bits, sample=sample))
        near(p.pixels, a.astype(float), 0)
        assert p.bits == 16
    single, one = deep.astype(np.float32), np.ones((2, 2), np.float32)
    for a, text in ((single/65535, 'nothing says which value is white'), (single/2, 'nothing says'),
                    (single - 1e5, 'float pixels from -'), (one*np.nan, 'nan'), (one*np.inf, 'inf'),
                    (grey.astype(np.float32), 'white may be 255 or 65535')):
        refused(tiff(a, 32, sample=3), text, '16')
    for a, text in ((deep.astype(np.int32) - 70000, '32-bit pixels from -'),
                    (deep.astype(np.int32) + 70000, 'nothing says which value is white'),
                    (grey.astype(np.int32), 'white may be 255 or 65535')):
        refused(tiff(a, 32, sample=2), text, 'save it with')
    for v in (1, 255):   # an annotation
        a = (grey > 99).astype(np.int32)*v
        assert (read(tiff(a, 32, sample=2)).pixels == a).all()

# What is refused

def frames(kind, n=3, **kw):
    return encode(grey, kind, save_all=True,
                  append_images=[Image.fromarray(grey//k) for k in range(2, n + 1)], **kw)

big = rng.integers(0, 256, (40, 60)).astype(np.uint8)
whole = {k: encode(big, k, **options.get(k, {}))
         for k in ('PNG', 'JPEG', 'TIFF', 'WEBP', 'BMP', 'GIF', 'PPM', 'JPEG2000')}
whole['TIFF, packed'] = encode(big, 'TIFF', compression='tiff_lzw')

@pytest.mark.parametrize('kind', whole)
@pytest.mark.parametrize('share', [0.02, 0.3, 0.5, 0.9])
def test_truncated(kind, share):
    refused(whole[kind][:int(len(whole[kind])*share)], 'cannot be decoded',
            'download or copy it again')

def idats(data, size=200):
    "A PNG with its pixels in many small chunks, so that a cut may fall between two."
    out, at = data[:8], 8
    while at < len(data):
        n, name = struct.unpack('>I', data[at:at+4])[0], data[at+4:at+8]
        body = data[at+8:at+8+n]
        for part in [body[i:i+size] for i in range(0, n, size)] if name == b'IDAT' else [body]:
            out += struct.pack('>I', len(part)) + name + part
            out += struct.pack('>I', zlib.crc32(name + part))
        at += 12 + n
    return out

@pytest.mark.parametrize('kind', [*whole, 'PNG, chunks'])
def test_no_part_of_a_picture_passes_for_the_whole(kind):
    "Cut after each byte: an error, or every pixel."
    data = idats(whole['PNG']) if kind == 'PNG, chunks' else whole[kind]
    full = read(data).pixels
    for n in range(len(data)):
        try: a = read_picture('a.png', data[:n]).pixels
        except InputError: continue
        assert np.array_equal(a, full), n

@pytest.mark.parametrize('data, needle',
                         [(b'', 'this file is empty'),
                          (b'\n\n<html><body>404</body></html>', 'a web page'),
                          (b'\xef\xbb\xbf<?xml version="1.0"?>', 'a web page'),
                          (b'%PDF-1.7', 'a PDF'), (b'PK\3\4rest', 'a ZIP archive'),
                          (b'hello', 'no PNG, JPEG'), (bytes(500), 'no PNG, JPEG'),
                          (b'version https://git-lfs.github.com/spec/v1', 'Git LFS pointer'),
                          (b'%!PS-Adobe-3.0 EPSF-3.0', 'no PNG, JPEG'),
                          (frames('GIF'), '3 pages or frames'),
                          (frames('TIFF'), '3 pages or frames'),
                          (frames('PNG'), '3 pages or frames'),
                          (frames('WEBP', lossless=True), '3 pages or frames'),
                          (png(8, 0, grey, size=(0, 5)), 'header is damaged'),
                          (png(8, 0, grey, size=(7, 0)), 'header is damaged'),
                          (tiff(np.zeros((0, 4), np.uint8), 8), 'header is damaged'),
                          (png(1, 0, [[0]], size=(10000, 10000)), 'more than 25,000,000 pixels'),
                          (png(1, 0, [[0]], size=(60000, 60000)), 'more than 25,000,000 pixels'),
                          (encode(Image.new('LAB', (3, 2)), 'TIFF'), 'colours in the space LAB')],
                         ids=lambda o: o if isinstance(o, str) else '')
def test_refused(data, needle): refused(data, needle)

def test_what_is_no_file(tmp_path):
    with pytest.raises(NotFoundError, match='there is no such file'):
        read_img(tmp_path/'nowhere.png')
    with pytest.raises(InputError, match='cannot be read'): read_img(tmp_path)

def test_content_decides_and_not_the_suffix(tmp_path):
    for kind in holds:
        f = tmp_path/'a.jpg'
        f.write_bytes(encode(grey, kind, **options.get(kind, {})))
        assert (read_img(f) == grey).all() and (read_img(str(f)) == grey).all()
    refused(encode(grey, 'PNG'), 'no DICOM file at all', name='a.dcm')

def test_bytes_that_were_read_are_not_read_again():
    assert (read_picture('/nowhere/a.png', encode(grey, 'PNG')).pixels == grey).all()

def test_a_phones_jpeg_with_a_preview():
    data = encode(np.full((16, 16), 200, np.uint8), 'MPO', save_all=True,
                  append_images=[Image.new('L', (8, 8))])
    assert (read(data).pixels == 200).all()

def test_suffixes_are_those_that_are_read():
    pillows = '.png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp .gif .jp2 .j2k .pgm .ppm .pbm .pnm'
    assert SUFFIXES == {*pillows.split(), *'.dcm .dicom .npy .nii .nii.gz .mha .nrrd'.split()}

# DICOM

NAME, ID = 'Plantedname', 'Hid-7700123'

def dicom(a, bits=8, kind='MONOCHROME2', syntax='1.2.840.10008.1.2.1', pixels=None, without=(),
          **tags):
    "The bytes of a DICOM file that names its patient wherever a name can be."
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = '1.2.840.10008.5.1.4.1.1.6.1', '1.2.3.4'
    for k in ('PatientName', 'OtherPatientNames', 'ReferringPhysicianName', 'OperatorsName'):
        setattr(ds, k, NAME + '^Jane')
    ds.PatientID = ID
    for k in ('InstitutionName', 'StudyDescription', 'SeriesDescription', 'ProtocolName',
              'AccessionNumber'):
        setattr(ds, k, NAME[:16])
    for k in ('PatientComments', 'ImageComments', 'AdditionalPatientHistory'): setattr(ds, k, NAME)
    block = ds.private_block(0x0011, NAME, create=True)
    block.add_new(1, 'LO', NAME)
    ds.Rows, ds.Columns, ds.PhotometricInterpretation = *a.shape[:2], kind
    ds.SamplesPerPixel = 1 if a.ndim == 2 else 3
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8*a.itemsize, bits, bits-1
    ds.PixelRepresentation = 0
    if a.ndim == 3: ds.PlanarConfiguration = 0
    ds.PixelData = a.tobytes() + bytes(a.nbytes % 2) if pixels is None else pixels
    ds['PixelData'].VR = 'OB' if a.itemsize == 1 else 'OW'
    for k,v in tags.items(): setattr(ds, k, v)
    for k in without: delattr(ds, k)
    f = BytesIO()
    private = dict(implicit_vr=False, little_endian=True) if syntax == '1.2.3.4.5' else {}
    ds.save_as(f, enforce_file_format=True, **private)
    assert NAME.encode() in f.getvalue() or syntax == '1.2.840.10008.1.2.1.99'
    return f.getvalue()

def scan(*args, **kw): return read(dicom(*args, **kw), 'scan.dcm')

def encapsulated(data):
    from pydicom.encaps import encapsulate
    return encapsulate([data])

def test_dicom_grey():
    p = scan(grey)
    near(p.pixels, grey, 0)
    assert (p.mode, p.bits) == ('DICOM', 8) and np.isnan(p.spacing).all()
    near(scan(grey, kind='MONOCHROME1').pixels, 255. - grey, 0)
    near(scan(deep, 16).pixels, deep, 0)
    # more bytes than pixels: pydicom warns, we do not
    near(scan(deep, 16, pixels=deep.tobytes() + bytes(20)).pixels, deep, 0)
    near(scan(deep, 16, kind='MONOCHROME1').pixels, 65535. - deep, 0)

@pytest.mark.parametrize('bits', [9, 10, 12, 14, 15])
@pytest.mark.parametrize('kind', ['MONOCHROME1', 'MONOCHROME2'])
def test_bits_stored_decides_the_scale_and_never_the_content(bits, kind):
    v = rng.integers(0, 2**bits//16, shape).astype(np.uint16)                # dark
    seen = v if kind == 'MONOCHROME2' else 2**bits - 1 - v
    p = scan(v, bits, kind=kind)
    near(p.pixels, seen*(65535/(2**bits-1)), 0.5)
    assert p.bits == 16
    # bits above those stored are none of the pixel's
    near(scan(v | np.uint16(1 << 15), bits, kind=kind).pixels, p.pixels, 0)

def test_fewer_than_8_bits():
    v = rng.integers(0, 16, shape).astype(np.uint8)
    near(scan(v, 4).pixels, v*17., 0)
    one = grey[:4, :4] > 99
    p = scan(one.astype(np.uint8), 1, pixels=np.packbits(one.ravel(), bitorder='little').tobytes(),
             BitsAllocated=1)
    near(p.pixels, one*255., 0)
    assert p.bits == 1

@pytest.mark.parametrize('planar', [0, 1])
def test_dicom_colour(planar):
    planes = np.moveaxis(colour, -1, 0) if planar else colour
    kw = dict(pixels=planes.tobytes() + b'\0', PlanarConfiguration=planar)
    near(scan(colour, kind='RGB', **kw).pixels, luma(colour), R)
    near(scan(colour, kind='YBR_FULL', **kw).pixels, colour[..., 0], 0)

def test_ybr_is_rgb_seen_through_the_standards_equation():
    "PS3.3 C.7.6.3.1.2: Y = 0.299 R + 0.587 G + 0.114 B."
    r, g, b = np.moveaxis(colour.astype(float), -1, 0)
    ybr = np.dstack([np.round(luma(colour)), 128 - 0.1687*r - 0.3313*g + 0.5*b,
                     128 + 0.5*r - 0.4187*g - 0.0813*b])
    ybr = np.clip(np.round(ybr), 0, 255).astype(np.uint8)
    near(scan(ybr, kind='YBR_FULL').pixels, scan(colour, kind='RGB').pixels, 1)

def test_ybr_with_halved_colour():
    y = rng.integers(0, 256, (4, 6)).astype(np.uint8)
    pairs = np.concatenate([y.reshape(-1, 2), np.full((12, 2), 128, np.uint8)], 1)   # Y1 Y2 Cb Cr
    p = scan(np.zeros((4, 6, 3), np.uint8), kind='YBR_FULL_422', pixels=pairs.tobytes())
    near(p.pixels, y, 0)

@pytest.mark.parametrize('bits', [8, 16])
def test_dicom_palette(bits):
    table = rng.integers(0, 2**bits, (256, 3)).astype(np.uint8 if bits == 8 else np.uint16)
    tags = {}
    for i,c in enumerate(('Red', 'Green', 'Blue')):
        tags[f'{c}PaletteColorLookupTableDescriptor'] = [256, 0, bits]
        tags[f'{c}PaletteColorLookupTableData'] = table[:, i].tobytes()
    p = scan(grey, kind='PALETTE COLOR', **tags)
    near(p.pixels, luma(table)[grey], R + bits/16)     # the weights are rounded to 1/65536
    assert p.bits == bits
    # a palette that is not there
    refused(dicom(grey, kind='PALETTE COLOR'), 'cannot be decoded', name='scan.dcm')

@pytest.mark.parametrize(
    'syntax',
    ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.2'])
def test_uncompressed_transfer_syntaxes(syntax):
    v = rng.integers(0, 4096, shape).astype(np.uint16)
    pixels = v.astype('>u2').tobytes() if syntax.endswith('.2.2') else v.tobytes()
    p = scan(v, 12, syntax=syntax, pixels=pixels, PixelSpacing=[0.5, 0.25])
    near(p.pixels, v*(65535/4095), 0.5)

def test_compressed_transfer_syntaxes():
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.dcmread(BytesIO(dicom(deep, 16)))
    ds.compress('1.2.840.10008.1.2.5')
    f = BytesIO()
    ds.save_as(f)
    near(read(f.getvalue(), 'scan.dcm').pixels, deep, 0)                     # RLE
    flat = np.kron(colour, np.ones((16,16,1), np.uint8))
    exact = np.kron(luma(colour), np.ones((16,16)))
    baseline = dict(syntax='1.2.840.10008.1.2.4.50')
    jpeg = encapsulated(encode(flat, 'JPEG', quality=100, subsampling=0))
    near(scan(flat, kind='YBR_FULL_422', pixels=jpeg, **baseline).pixels, exact, 3)
    flat_grey = np.kron(grey, np.ones((16,16), np.uint8))
    jpeg = encapsulated(encode(flat_grey, 'JPEG', quality=100))
    near(scan(flat_grey, pixels=jpeg, **baseline).pixels, flat_grey, 1)
    j2k = encapsulated(encode(flat, 'JPEG2000', irreversible=False, mct=1, no_jp2=True))
    near(scan(flat, kind='YBR_RCT', syntax='1.2.840.10008.1.2.4.90', pixels=j2k).pixels, exact, R)
    with_no_decoder = dicom(flat_grey, syntax='1.2.840.10008.1.2.4.100', pixels=encapsulated(b'12'))
    refused(with_no_decoder, 'MPEG2', 'save it uncompressed', name='scan.dcm')

def test_no_part_of_a_dicom_picture_passes_for_the_whole():
    pydicom = pytest.importorskip('pydicom')
    ds = pydicom.dcmread(BytesIO(dicom(deep, 16)))
    ds.compress('1.2.840.10008.1.2.5')
    packed = BytesIO()
    ds.save_as(packed)
    for data in (dicom(deep, 16), packed.getvalue()):
        for n in range(len(data)-400, len(data)):
            try: a = read_picture('scan.dcm', data[:n]).pixels
            except InputError: continue
            assert np.array_equal(a, deep), n

def test_old_files_without_a_mark():
    data = dicom(grey, syntax='1.2.840.10008.1.2')
    assert data[128:132] == b'DICM'
    # group 2 and its length
    meta = 132 + 12 + struct.unpack('<I', data[140:144])[0]
    # implicit little endian, as old files are
    near(read(data[meta:], 'scan.dcm').pixels, grey, 0)
    near(read(data, 'no suffix at all').pixels, grey, 0)

def region(x, y, **tags):
    pydicom = pytest.importorskip('pydicom')
    r = pydicom.Dataset()
    own = dict(RegionSpatialFormat=1, RegionDataType=1, PhysicalUnitsXDirection=3,
               PhysicalUnitsYDirection=3, PhysicalDeltaX=x, PhysicalDeltaY=y)
    for k,v in (own | tags).items():
        if v is not None: setattr(r, k, v)
    return r

nowhere = (np.nan, np.nan)

one, flow = (0.01, 0.01, {}), (9., 9., dict(RegionDataType=2))
m_mode = 9., 9., dict(RegionSpatialFormat=2)
trace = 9., 9., dict(RegionSpatialFormat=3, PhysicalUnitsXDirection=4)
other_tag = dict(PixelSpacing=[9, 9])

@pytest.mark.parametrize('regions, other, expected', [
    ([(0.0128, 0.02, {})], {}, (0.2, 0.128)),              # cm; row is y
    ([(0.0128, 0.02, {})], other_tag, (0.2, 0.128)),       # the region comes first
    ([(-0.01, 0.01, {})], {}, (0.1, 0.1)),
    ([one, one], {}, (0.1, 0.1)),
    ([one, (0.02, 0.02, {})], {}, nowhere),                # two views, two scales
    ([one, (0.01, 0.012, {})], other_tag, nowhere),        # and no other tag settles it
    ([one, flow], {}, (0.1, 0.1)),
    ([one, m_mode], {}, (0.1, 0.1)),
    ([trace], dict(PixelSpacing=[0.3, 0.4]), (0.3, 0.4)),  # a trace only
    ([(0., 0., {})], {}, nowhere),
    ([(float('nan'), 0.01, {})], {}, nowhere),
    ([(float('inf'), 0.01, {})], {}, nowhere),
    ([(0.01, None, {})], {}, nowhere),
    ([], dict(PixelSpacing=[0.3, 0.4]), (0.3, 0.4)),
    ([], dict(ImagerPixelSpacing=[0.3, 0.4]), (0.3, 0.4)),
    ([], dict(PixelSpacing=[0.3, 0.4], ImagerPixelSpacing=[9, 9]), (0.3, 0.4)),
    ([], dict(PixelSpacing=[0, 0.4]), nowhere),
    ([], {}, nowhere)])
def test_spacing(regions, other, expected):
    tags = dict(other)
    if regions: tags['SequenceOfUltrasoundRegions'] = [region(x, y, **kw) for x,y,kw in regions]
    p = scan(grey, **tags)
    np.testing.assert_allclose(p.spacing, expected, rtol=1e-6)
    assert all(type(s) is float for s in p.spacing)

def test_spacing_that_is_no_number_hides_no_pixel():
    data = dicom(grey, PixelSpacing=[0.3, 0.4]).replace(b'0.3\\0.4', b'abc\\def')
    assert b'abc' in data
    p = read(data, 'scan.dcm')
    assert (p.pixels == grey).all() and np.isnan(p.spacing).all()

def bad_dicoms():
    film = np.concatenate([grey]*4)
    yield dicom(film, Rows=5, NumberOfFrames=4), 'a film of 4 frames'
    yield dicom(grey, without=['PixelData']), 'without a picture'
    yield dicom(grey, without=['Rows']), 'cannot be decoded'
    yield dicom(grey, Rows=0), '7x0 pixels'
    yield dicom(grey, Rows=60000, Columns=60000), 'more than 25,000,000 pixels'
    yield dicom(grey, PixelRepresentation=1), 'signed pixels'
    yield dicom(grey, kind='HSV'), 'colour space'
    yield dicom(grey, kind=NAME.upper()), 'colour space'
    yield dicom(deep, 12, HighBit=15), 'HighBit'
    yield dicom(grey.astype(np.uint32), 32), '32 bits a pixel'
    yield dicom(grey)[:-9], 'cannot be decoded'
    yield dicom(grey, syntax='1.2.3.4.5', pixels=b'1234'), 'private or damaged transfer syntax'
    yield dicom(grey, syntax='1.2.840.10008.1.2.4.50',
                pixels=encapsulated(b'no jpeg here')), 'cannot be decoded'
    yield dicom(grey)[:200], 'without a picture'

def test_dicom_refused():
    for data, needle in bad_dicoms(): refused(data, needle, name='scan.dcm')

def test_no_patient_tag_stays(monkeypatch):
    pydicom = pytest.importorskip('pydicom')
    data, seen, real = dicom(grey, PixelSpacing=[0.1, 0.1]), [], pydicom.dcmread
    def spy(*args, **kw):
        seen.append(real(*args, **kw))
        return seen[-1]
    monkeypatch.setattr(pydicom, 'dcmread', spy)
    read(data, 'scan.dcm')
    assert len(seen) == 1 and NAME not in str(seen[0]) and NAME in str(real(BytesIO(data)))
    # the two numbers are taken out when they have become a digest
    assert ID not in str(seen[0]) and all(e.keyword in TAGS for e in seen[0])

def test_no_patient_tag_reaches_any_output(caplog, recwarn, capfd, tmp_path):
    "Not in what is returned, raised, warned, logged or printed, by pydicom neither."
    said = []
    with caplog.at_level(logging.DEBUG):
        for data in (dicom(grey), dicom(grey, PatientID=NAME*9),
                     dicom(deep, 12, PixelSpacing=[0.1, 0.1])):
            p = read_picture('scan.dcm', data)
            Image.fromarray(p.pixels).save(tmp_path/'a.png')
            stored = (tmp_path/'a.png').read_bytes()
            said += [repr(p), pickle.dumps(p).decode('latin1'), stored.decode('latin1')]
        for data, _ in bad_dicoms():
            with pytest.raises(InputError) as e: read_picture('scan.dcm', data)
            v = e.value
            said += [str(v), repr(v), str(v.__cause__), pickle.dumps(v).decode('latin1')]
            # no traceback quotes pydicom
            assert v.__cause__ is None and (v.__suppress_context__ or v.__context__ is None)
        # those of writing the files above
        ours = [w for w in recwarn.list if 'valuerep' not in w.filename]
    out = capfd.readouterr()
    said += [out.out, out.err, *(str(w.message) for w in ours)]
    assert not any(n.lower() in s.lower() for s in said for n in (NAME, ID))

@pytest.mark.parametrize(
    'module, call, extra',
    [('pydicom', lambda data: read_picture('scan.dcm', data), 'dicom'),
     ('skimage.exposure', lambda data: scale_intensity(grey, 'clahe'), 'clahe')])
def test_extras_that_are_not_installed(monkeypatch, module, call, extra):
    data = dicom(grey)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"pip install 'fetal_seg[{extra}]'")): call(data)

# Damage

def small_files():
    small = rng.integers(0, 256, (9, 11)).astype(np.uint8)
    rgba = rng.integers(0, 256, (9, 11, 4)).astype(np.uint8)
    yield 'png', encode(small, 'PNG', exif=exif(6))
    yield 'png', encode(rgba, 'PNG')
    yield 'png', encode(paletted(3), 'PNG')
    yield 'png', encode(deep, 'PNG')
    yield 'jpg', encode(small, 'JPEG', exif=exif(3))
    yield 'tif', encode(deep, 'TIFF')
    yield 'tif', encode(rgba, 'TIFF', compression='tiff_deflate')
    yield 'webp', encode(rgba, 'WEBP', lossless=True)
    yield 'bmp', encode(small, 'BMP')
    yield 'dcm', dicom(deep, 12, SequenceOfUltrasoundRegions=[region(0.01, 0.01)])
    yield 'dcm', dicom(colour, kind='RGB')

def damaged(data, rng):
    "A file cut short, or with up to four bits flipped, or both."
    data = bytearray(data)
    if rng.random() < 0.6:
        for _ in range(rng.integers(1, 5)):
            at = rng.integers(min(len(data), 400) if rng.random() < 0.5 else len(data))
            data[at] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.7: return bytes(data)
    return bytes(data[:rng.integers(len(data))])

@pytest.mark.filterwarnings('ignore')
def test_damage_gives_a_picture_or_one_clear_error():
    "200 damaged copies of each of 11 small files: a valid (H, W) array or an InputError."
    outcome = dict(read=0, refused=0)
    for n, (suffix, data) in enumerate(small_files()):
        rng = np.random.default_rng(n)
        for _ in range(200):
            bad = damaged(data, rng)
            try: a = read_picture(f'a.{suffix}', bad).pixels
            except InputError as e:
                said = str(e)
                assert said.startswith(f'a.{suffix}: ') and said.isprintable(), said
                assert NAME.lower() not in said.lower(), said
                outcome['refused'] += 1
            else:
                assert a.ndim == 2 and a.size and a.dtype in (np.uint8, np.uint16)
                outcome['read'] += 1
    assert min(outcome.values()) > 200, outcome     # both happen, or this tests nothing

# Intensity

def sample(dtype, shape, k):
    rng = np.random.default_rng(k)
    if dtype == float: return rng.random(shape)
    if dtype == bool: return rng.random(shape) > 0.5
    return rng.integers(0, np.iinfo(dtype).max//(1+k%3), shape, endpoint=True).astype(dtype)

@pytest.mark.parametrize('how', INTENSITIES)
@pytest.mark.parametrize('dtype', [bool, np.uint8, np.uint16, float])
def test_every_option_gives_unit_float32(how, dtype):
    for k, s in enumerate([(1,1), (1,5), (3,2), (16,16), (33,70)]):
        for img in (sample(dtype, s, k), np.zeros(s, dtype), np.ones(s, dtype)):
            keep = img.copy()
            x = scale_intensity(img, how)
            assert x.shape == s and x.dtype == np.float32 and np.isfinite(x).all()
            assert x.min() >= 0 and x.max() <= 1
            assert (img == keep).all()

@pytest.mark.parametrize('how', INTENSITIES)
def test_part_is_the_picture_alone_and_padding_stays_0(how):
    img = sample(np.uint8, (40, 50), 1)
    canvas = np.zeros((60, 64), np.uint8)
    part = np.s_[10:50, 7:57]
    canvas[part] = img
    x = scale_intensity(canvas, how, part)
    np.testing.assert_array_equal(x[part], scale_intensity(img, how))
    x[part] = 0
    assert not x.any()
    assert not scale_intensity(canvas, how, np.s_[0:0, 0:0]).any()

def test_options_against_numpy_and_skimage():
    # the brightest are rare, as in ultrasound
    img = (65535*np.random.default_rng(3).random((32, 40))**4).astype(np.uint16)
    v = img.ravel().astype(float)
    order = np.sort(v)
    def percentile(q):
        at = q/100*(len(v)-1)
        lo = int(at)
        return order[lo] + (at-lo)*(order[min(lo+1, len(v)-1)]-order[lo])
    low, high = percentile(1), percentile(99.5)
    near(scale_intensity(img, 'window'), np.clip((img - low)/(high - low), 0, 1), 1e-5)
    z = (img - v.sum()/len(v)) / np.sqrt(((v - v.sum()/len(v))**2).sum()/len(v))
    near(scale_intensity(img, 'zscore'), np.clip(z, -3, 3)/6 + 0.5, 1e-5)
    near(scale_intensity(img, 'dtype'), img/65535, 1e-6)
    exposure = pytest.importorskip('skimage.exposure')
    x = img.astype(np.float32)/np.float32(65535)
    near(scale_intensity(img, 'clahe'), exposure.equalize_adapthist(x), 1e-6)

def test_zscore_clips_at_three_deviations():
    img = np.zeros((20, 20), np.uint8)
    img[3, 4] = 255                                # nearly 20 deviations from the mean
    x = scale_intensity(img, 'zscore')
    assert x[3, 4] == 1 and abs(x[0, 0] - 0.5) < 0.02

@pytest.mark.parametrize('how', INTENSITIES)
def test_a_constant_picture(how):
    for v in (0, 7, 255):
        near(scale_intensity(np.full((16, 16), v, np.uint8), how),
             np.full((16, 16), 0.5 if how == 'zscore' else v/255), 1e-6)

def test_8_and_16_bits_agree():
    img = sample(np.uint8, (40, 50), 2)
    for how in INTENSITIES:
        near(scale_intensity(img.astype(np.uint16)*257, how), scale_intensity(img, how), 1e-6)
    assert (to_uint8(img.astype(np.uint16)*257) == img).all() and to_uint8(img) is img

def test_unusable_intensity():
    with pytest.raises(InputError, match='not known; choose one of dtype, window, zscore, clahe'):
        scale_intensity(grey, 'max')
    for bad in (np.array([[2.]]), np.array([[np.nan]]), np.array([[300]], np.int32)):
        with pytest.raises(InputError, match='give uint8, uint16, or floats'): to_float(bad)

# Hash

def test_dhash_of_a_picture_of_nine_by_eight():
    for k in range(20):
        p = sample(np.uint8, (8, 9), 3*k)
        bits = ''.join('1' if p[i, j+1] > p[i, j] else '0' for i in range(8) for j in range(8))
        assert dhash(p) == f'{int(bits, 2):016x}' == dhash(p.astype(np.uint16)*257)

# An alpha that says nothing

def bmp32(img, alpha):
    "A BMP with a V4 header that declares an alpha mask."
    h, w = img.shape
    px = np.dstack([img, img, img, np.full_like(img, alpha)])[::-1].tobytes()
    head = struct.pack('<IiiHHIIiiII', 108, w, h, 1, 32, 3, len(px), 2835, 2835, 0, 0)
    head += struct.pack('<IIII', 0xff0000, 0xff00, 0xff, 0xff000000) + b'BGRs' + bytes(48)
    return b'BM' + struct.pack('<IHHI', 14+108+len(px), 0, 0, 122) + head + px

def test_an_alpha_of_0_everywhere_is_none():
    near(read(bmp32(grey, 0), 'a.bmp').pixels, grey, 0)
    near(read(bmp32(grey, 128), 'a.bmp').pixels, grey*(128/255), 0.5)
    for kind, kw in (('PNG', {}), ('TIFF', {}), ('WEBP', dict(lossless=True, exact=True))):
        near(read(encode(np.dstack([colour, 0*grey]), kind, **kw)).pixels, luma(colour), R)
        # a single opaque pixel: alpha is meant
        one = 0*grey
        one[2, 3] = 255
        near(read(encode(np.dstack([colour, one]), kind, **kw)).pixels, luma(colour)*(one > 0), R)
    # grey and alpha
    near(read(encode(np.dstack([grey, 0*grey]), 'PNG')).pixels, grey, 0)
    # a palette that names all its entries transparent is believed
    near(read(encode(paletted(bytes(6)), 'PNG')).pixels, 0*grey, 0)

# DICOM: colours by the stream's own marks

def jpeg_stream(a, subsampling, mark, quality=98):
    "A JPEG stream of three components with a mark: jfif, none, adobe0 (RGB), adobe1, names."
    rgb = mark in ('adobe0', 'names', 'rgb, none')
    s = encode(np.dstack([a]*3), 'JPEG', quality=quality, subsampling=0 if rgb else subsampling,
               keep_rgb=rgb)
    out, at = s[:2], 2
    kept = dict(jfif=0xe0, adobe0=0xee).get(mark)
    while s[at+1] != 0xda:
        n = 2 + int.from_bytes(s[at+2:at+4], 'big')
        if s[at+1] not in (0xe0, 0xee) or s[at+1] == kept: out += s[at:at+n]   # APP0 and APP14
        at += n
    if mark == 'adobe1':
        out = out[:2] + b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01' + out[2:]
    s = bytearray(out + s[at:])
    if mark == 'rgb, none':   # numbers instead of names
        frame, scan = s.index(b'\xff\xc0') + 10, s.index(b'\xff\xda') + 5
        for b in (1, 2, 3): s[frame + 3*(b-1)] = s[scan + 2*(b-1)] = b
    return bytes(s)

smooth = (40 + 160*np.add.outer(np.linspace(0, 1, 48), np.linspace(0, 1, 64))/2).astype(np.uint8)

@pytest.mark.parametrize('tag', ['RGB', 'YBR_FULL', 'YBR_FULL_422'])
@pytest.mark.parametrize('mark', ['jfif', 'adobe1', 'adobe0', 'names'])
@pytest.mark.parametrize('subsampling', [0, 1, 2])
def test_jpeg_colours_are_those_of_the_stream(mark, tag, subsampling):
    a = np.dstack([smooth]*3)
    p = scan(a, kind=tag, syntax='1.2.840.10008.1.2.4.50',
             pixels=encapsulated(jpeg_stream(smooth, subsampling, mark)))
    near(p.pixels, smooth, 4)

@pytest.mark.parametrize('tag', ['RGB', 'YBR_FULL', 'YBR_FULL_422'])
def test_a_jpeg_without_marks(tag):
    "Unequal sampling tells; without it the tag is believed where the pixels do not contradict it."
    a, syntax = np.dstack([smooth]*3), '1.2.840.10008.1.2.4.50'
    for subsampling in (1, 2):
        stream = encapsulated(jpeg_stream(smooth, subsampling, 'none'))
        near(scan(a, kind=tag, syntax=syntax, pixels=stream).pixels, smooth, 4)
    ybr, rgb = (dicom(a, kind=tag, syntax=syntax, pixels=encapsulated(jpeg_stream(smooth, 0, m)))
                for m in ('none', 'rgb, none'))
    right, wrong = (rgb, ybr) if tag == 'RGB' else (ybr, rgb)
    near(read(right, 'scan.dcm').pixels, smooth, 4)
    refused(wrong, 'pixels that are called', name='scan.dcm')

def test_uncompressed_colours_that_are_called_by_a_wrong_name():
    rgb, ybr = np.dstack([smooth]*3), np.dstack([smooth, 0*smooth+128, 0*smooth+128])
    near(scan(rgb, kind='RGB').pixels, smooth, 0)
    near(scan(ybr, kind='YBR_FULL').pixels, smooth, 0)
    refused(dicom(ybr, kind='RGB'), 'called RGB and look like YCbCr', name='scan.dcm')
    refused(dicom(rgb, kind='YBR_FULL'), 'called YCbCr and look like RGB', name='scan.dcm')
    # flat pictures tell nothing
    flat = np.full((9, 9, 3), 128, np.uint8)
    for kind in ('RGB', 'YBR_FULL'): near(scan(flat, kind=kind).pixels, flat[..., 0], 0)

# DICOM: windows

@pytest.mark.parametrize('kind', ['MONOCHROME1', 'MONOCHROME2'])
@pytest.mark.parametrize('window, bits', [((128, 256), 8), ((512, 1024), 10), ((2048, 4096), 12),
                                          ((32768, 65536), 16)])
def test_a_window_says_how_many_bits_are_used(window, bits, kind):
    v = rng.integers(0, 2**bits, shape).astype(np.uint16)
    p = scan(v, 16, kind=kind, WindowCenter=window[0], WindowWidth=window[1])
    seen = v if kind == 'MONOCHROME2' else 2**bits - 1 - v
    near(p.pixels, seen*((255 if bits == 8 else 65535)/(2**bits-1)), 0.5)
    assert p.bits == (8 if bits == 8 else 16)

@pytest.mark.parametrize('seed', range(20))
def test_windows_against_the_standards_equation(seed):
    "C.11.2.1.2.1, for pixels that lie inside; outside, BitsStored decides."
    r = np.random.default_rng(seed)
    slope, intercept = float(r.choice([1, 0.5, 2])), float(r.choice([0, -20, 7]))
    low, high = sorted(r.choice(np.arange(300, 30000), 2, replace=False).tolist())
    v = r.integers(low, high+1, shape).astype(np.uint16)
    lo, hi = low*slope + intercept, high*slope + intercept
    c, w = (lo+hi)/2 + 0.5, hi - lo + 1
    exact = (((v*slope + intercept) - (c-0.5))/(w-1) + 0.5)*65535
    tags = dict(RescaleSlope=slope, RescaleIntercept=intercept, WindowCenter=f'{c:.12g}',
                WindowWidth=f'{w:.12g}')
    near(scan(v, 16, **tags).pixels, exact, 1)
    v[0, 0] = min(high + 9, 65535)
    near(scan(v, 16, **tags).pixels, v, 0)

@pytest.mark.parametrize('tags', [
    dict(WindowCenter=[128, 20], WindowWidth=[256, 40]),
    dict(WindowCenter=128, WindowWidth=256, VOILUTFunction='SIGMOID'),
    dict(WindowCenter=128),
    dict(WindowCenter=-500, WindowWidth=2000),
    dict(WindowCenter=40000, WindowWidth=80000),
    dict(WindowCenter=50, WindowWidth=1)
])
def test_windows_that_say_nothing(tags):
    v = grey.astype(np.uint16)
    near(scan(v, 16, **tags).pixels, v, 0)

def test_a_window_never_changes_8_bits():
    near(scan(grey//2, WindowCenter=64, WindowWidth=128).pixels, grey//2, 0)

# DICOM: whose picture it is

def exam(**tags): return scan(grey, **tags).exam

def test_exams_of_headers():
    a = exam(PatientID='0042', StudyInstanceUID='1.2.3')
    assert re.fullmatch('dicom-[0-9a-f]{16}', a) and '0042' not in a
    assert a == exam(PatientID='0042 ', StudyInstanceUID='1.2.4')
    assert a != exam(PatientID='0043', StudyInstanceUID='1.2.3')
    nobody = ('', '0000', 'ANONYMOUS', 'Anonymized', 'n/a')
    studies = {exam(PatientID=p, StudyInstanceUID='1.2.3') for p in nobody}
    assert len(studies) == 1 and a not in studies
    assert exam(PatientID='', StudyInstanceUID='') == '' == read(encode(grey, 'PNG')).exam
    # a patient is no study
    assert exam(PatientID='1.2.3') != exam(PatientID='', StudyInstanceUID='1.2.3')

def test_a_key_of_ones_own(monkeypatch):
    a = exam(PatientID='0042')
    monkeypatch.setenv('FETAL_SEG_KEY', 'a secret')
    b = exam(PatientID='0042')
    assert a != b == exam(PatientID='0042')

# Arrays

sitk = pytest.importorskip('SimpleITK')

def npy(a):
    f = BytesIO()
    np.save(f, a)
    return f.getvalue()

def volume(tmp_path, a, suffix, spacing=None, colour=False, **kw):
    im = sitk.GetImageFromArray(a, isVector=colour)
    if spacing: im.SetSpacing(spacing)
    sitk.WriteImage(im, str(tmp_path/f'v{suffix}'), **kw)
    return (tmp_path/f'v{suffix}').read_bytes()

@pytest.mark.parametrize('compress', [False, True])
@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz', '.mha', '.nrrd'])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint16, np.float32])
def test_volumes_of_one_slice(tmp_path, suffix, dtype, compress):
    a = rng.integers(0, 256 if dtype == np.uint8 else 32768, (7, 11)).astype(dtype)
    for v, spacing in ((a, (0.1, 0.3)), (a[None], (0.1, 0.3, 1))):
        data = volume(tmp_path, v, suffix, spacing, useCompression=compress)
        p = read(data, f'x{suffix}')
        near(p.pixels, a, 0)
        np.testing.assert_allclose(p.spacing, (0.3, 0.1), rtol=1e-6)
        got = read_values('x', data)
        assert (got == a).all() and got.dtype == dtype
    # nobody said one
    assert np.isnan(read(volume(tmp_path, a, suffix), 'x').spacing).all()

@pytest.mark.parametrize('suffix', ['.nii', '.mha', '.nrrd'])
def test_three_slices_and_vectors_are_colours(tmp_path, suffix):
    planes = np.ascontiguousarray(np.moveaxis(colour, -1, 0))
    for data in (volume(tmp_path, planes, suffix, (0.2, 0.2, 1)),
                 volume(tmp_path, colour, suffix, (0.2, 0.2), colour=True),
                 npy(colour), npy(planes), npy(colour[None])):
        near(read(data, f'x{suffix}').pixels, luma(colour), R)
        assert (read_values('x', data) == colour).all()
    for n in (2, 4, 30):
        refused(volume(tmp_path, np.zeros((n, 7, 11), np.uint8), suffix), f'a volume of 11x7x{n}',
                'the slice that is meant', name=f'x{suffix}')

@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz', '.mha', '.nrrd'])
@pytest.mark.parametrize('compress', [False, True])
def test_no_part_of_an_array_passes_for_the_whole(tmp_path, suffix, compress, capfd):
    a = rng.integers(0, 256, (13, 17)).astype(np.uint8)
    data = volume(tmp_path, a, suffix, useCompression=compress)
    for cut in sorted({*range(1, len(data), 23), *range(len(data)-12, len(data))}):
        try: p = read_picture('x' + suffix, data[:cut])
        except InputError as e: assert '\n' not in str(e)
        else: assert (p.pixels == a).all(), cut
    assert capfd.readouterr() == ('', '')

def test_no_part_of_an_npy_passes_for_the_whole():
    data = npy(grey)
    for n in range(len(data)):
        with pytest.raises(InputError): read_picture('x.npy', data[:n])

def test_npy_by_type():
    near(read(npy(grey)).pixels, grey, 0)
    near(read(npy(deep)).pixels, deep, 0)
    near(read(npy(grey > 99)).pixels, (grey > 99)*255., 0)
    near(read(npy(np.asfortranarray(grey))).pixels, grey, 0)
    unit = rng.random(shape)
    near(read(npy(unit)).pixels, unit*65535, 0.5)
    near(read(npy(deep.astype(np.int64))).pixels, deep, 0)
    for v in (1, 255): near(read(npy((grey > 99)*v)).pixels, (grey > 99)*v, 0)           # a mask
    for a, text in ((grey.astype(np.int32), 'white may be 255'), (grey - 300., 'nothing says'),
                    (grey.astype(complex), 'no numbers'), (np.array([['a']]), 'no numbers'),
                    (np.zeros((4, 5, 6)), 'an array of 4x5x6'),
                    (np.zeros((4, 5, 4)), 'an array of 4x5x4'), (np.zeros(5), 'an array of 5'),
                    (np.float64(3), 'one number'), (np.zeros((0, 4)), 'an array of 0x4'),
                    (np.full((2, 2), np.nan), 'nan')):
        refused(npy(a), text, name='x.npy')
    # a pickle is never opened
    refused(npy(np.array([dict(a=1)], object)), 'no numbers', name='x.npy')
    big = npy(grey).replace(b'(5, 7), }' + b' '*8, b'(99999, 99999), }')
    refused(big, 'cut short', name='x.npy')

def test_a_header_that_names_another_file(tmp_path):
    (tmp_path/'secret.raw').write_bytes(bytes(77))
    head = ('ObjectType = Image\nNDims = 2\nDimSize = 11 7\nElementType = MET_UCHAR\n'
            'ElementDataFile = {}\n')
    for name in ('secret.raw', str(tmp_path/'secret.raw'), 'LIST\nsecret.raw', 'LOCAL2'):
        refused(head.format(name).encode() + bytes(77), 'pixels lie in another file', name='x.mha')
    nrrd = 'NRRD0004\ntype: uchar\ndimension: 2\nsizes: 11 7\nencoding: raw\n{}: secret.raw\n\n'
    for key in ('data file', 'datafile'):
        refused(nrrd.format(key).encode() + bytes(77), 'pixels lie in another file', name='x.nrrd')

def test_values_of_what_is_no_array(tmp_path):
    with pytest.raises(InputError, match='this is no NPY'):
        read_values('a.png', encode(grey, 'PNG'))
    np.save(tmp_path/'a.npy', grey)
    assert (read_values(tmp_path/'a.npy') == grey).all()
    assert (read_img(tmp_path/'a.npy') == grey).all()

def test_without_simpleitk(monkeypatch, tmp_path):
    data = volume(tmp_path, grey, '.mha')
    monkeypatch.setitem(sys.modules, 'SimpleITK', None)
    refused(data, "pip install 'fetal_seg[medical]'", name='x.mha')
    near(read(npy(grey)).pixels, grey, 0)
