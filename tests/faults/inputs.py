"""The hostile inputs: what is done to which file, and who reads it then. Seeded by the name."""
import csv, io, json, os, pickle, random, struct, zipfile, zlib
from functools import lru_cache
from io import BytesIO
from typing import Callable, NamedTuple
import numpy as np
from world import SHAPE

class Input(NamedTuple):
    name:str                # group/what
    group:str
    target:str              # of `targets.TARGETS`
    files:tuple             # that are changed, relative to the folder; an error names one of them
    damage:Callable         # (folder) -> None
    harmless:bool = False   # must be accepted, with the good result
    free:bool = False       # nothing in the file can tell: another result is undetectable
    oracle:str = ''         # whose good result counts; '' the target's; '-': none: it may be read
    must_find:bool = False  # the same result as before is silence: verify must say something

INPUTS, NAMES = [], set()
def add(group, what, target, files, damage, **kw):
    files = (files,) if isinstance(files, str) else tuple(files)
    name = f'{group}/{what}'
    if name in NAMES: return
    NAMES.add(name)
    INPUTS.append(Input(name, group, target, files, damage, **kw))

def gen(*key): return random.Random('/'.join(map(str, key)))

def put(name, data):
    "What writes bytes in place of a file."
    def damage(d):
        p = d/name
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(data(d) if callable(data) else data)
    return damage

def edit(name, change):
    "What changes the bytes of a file."
    def damage(d): (d/name).write_bytes(change((d/name).read_bytes()))
    return damage

def instead(name, make):
    "What puts something that is no file in the place of a file."
    def damage(d):
        p = d/name
        p.parent.mkdir(parents=True, exist_ok=True)
        if p.is_file() or p.is_symlink(): p.unlink()
        make(p)
    return damage

NO_FILE = dict(fifo=os.mkfifo, folder=lambda p: p.mkdir(),
               endless=lambda p: p.symlink_to('/dev/zero'), loop=lambda p: p.symlink_to(p.name),
               nowhere=lambda p: p.symlink_to('gone'))

# (a) pictures

@lru_cache(None)
def grey(shape=SHAPE):
    r = np.random.default_rng(5)
    y, x = np.mgrid[:shape[0], :shape[1]]
    a = 90 + 60*np.sin(x/9) + 40*np.cos(y/7) + r.normal(0, 8, shape)
    return a.clip(0, 255).astype(np.uint8)

def pillow(fmt, a=None, **kw):
    from PIL import Image
    f = BytesIO()
    Image.fromarray(grey() if a is None else a).save(f, fmt, **kw)
    return f.getvalue()

def npy(a, **kw):
    f = BytesIO()
    np.save(f, a, **kw)
    return f.getvalue()

def mha(a, size=None):
    size = size or f'{a.shape[1]} {a.shape[0]}'
    return (f'ObjectType = Image\nNDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\n'
            f'CompressedData = False\nElementSpacing = 1 1\nDimSize = {size}\n'
            f'ElementType = MET_UCHAR\nElementDataFile = LOCAL\n').encode() + a.tobytes()

def nrrd(a, size=None):
    size = size or f'{a.shape[1]} {a.shape[0]}'
    return (f'NRRD0004\ntype: uint8\ndimension: 2\nsizes: {size}\nencoding: raw\n\n'
            ).encode() + a.tobytes()

def nifti(a, size=None):
    h = bytearray(352)
    w, t = size or a.shape[::-1]
    struct.pack_into('<i', h, 0, 348)
    struct.pack_into('<8h', h, 40, 2, w, t, 1, 1, 1, 1, 1)
    struct.pack_into('<hh', h, 70, 2, 8)
    struct.pack_into('<8f', h, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into('<f', h, 108, 352.)
    h[344:348] = b'n+1\0'
    return bytes(h) + a.tobytes()

def dicom(a, deflate=False, **tags):
    import pydicom
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1' + '.99'*deflate
    ds.SOPClassUID, ds.SOPInstanceUID = '1.2.840.10008.5.1.4.1.1.6.1', '1.2.3.4'
    ds.Rows, ds.Columns, ds.PhotometricInterpretation = *a.shape, 'MONOCHROME2'
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 8, 8, 7
    ds.PixelRepresentation = 0
    ds.PixelData = a.tobytes()
    for k, v in tags.items(): setattr(ds, k, v)
    f = BytesIO()
    pydicom.dcmwrite(f, ds, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return f.getvalue()

def chunk(kind, data): return (struct.pack('>I', len(data)) + kind + data
                               + struct.pack('>I', zlib.crc32(kind + data)))

def png(width, height, rows=None, more=b'', bits=8, colour=0):
    "A PNG of zeros, compressed row by row, as it is or of a header that lies."
    c = zlib.compressobj(9)
    line = bytes(1 + width*bits*{0: 1, 2: 3}[colour]//8)
    body = b''.join(c.compress(line) for _ in range(height if rows is None else rows)) + c.flush()
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits,
            colour, 0, 0, 0)) + more + chunk(b'IDAT', body) + chunk(b'IEND', b''))

@lru_cache(None)
def pictures():
    "File name -> bytes, of one picture."
    import gzip
    a = grey()
    deep = (a.astype(np.uint16) << 8) + 17
    return {'a.png': pillow('PNG'), 'deep.png': pillow('PNG', deep), 'a.jpg': pillow('JPEG'),
            'progressive.jpg': pillow('JPEG', progressive=True), 'a.tif': pillow('TIFF'),
            'lzw.tif': pillow('TIFF', compression='tiff_lzw'), 'a.bmp': pillow('BMP'),
            'a.gif': pillow('GIF'), 'a.webp': pillow('WEBP', lossless=True),
            'a.pgm': pillow('PPM'), 'a.jp2': pillow('JPEG2000'), 'a.npy': npy(a),
            'a.nii': nifti(a), 'a.nii.gz': gzip.compress(nifti(a), mtime=0), 'a.mha': mha(a),
            'a.nrrd': nrrd(a), 'a.dcm': dicom(a)}

CHECKED = ('a.png', 'deep.png', 'a.nii.gz')   # formats with checksums

def flipped(data, r, n=1):
    b = bytearray(data)
    for _ in range(n): b[r.randrange(len(b))] ^= 1 << r.randrange(8)
    return bytes(b)

def add_pictures():
    for name, data in pictures().items():
        good, free = f'picture:{name}', name not in CHECKED
        def case(what, changed, target='picture', file=name, **kw):
            kw.setdefault('oracle', good)
            add('a pictures', f'{name} {what}', target, file, put(file, changed), **kw)
        case('untouched', data, harmless=True)
        for i in range(14 if not free else 7):
            case(f'bit {i}', flipped(data, gen(name, i)), free=free)
        for share in (0.05, 0.3, 0.5, 0.8, 0.97):
            case(f'cut at {share}', data[:int(share*len(data))])
        case('without its last byte', data[:-1], free=name in ('a.bmp', 'a.gif', 'a.jp2', 'a.webp'))
        case('empty', b'')
        case('zeros', bytes(len(data)))
        case('noise', gen(name).randbytes(len(data)))
        case('zero block', data[:len(data)//2] + bytes(64) + data[len(data)//2 + 64:], free=free)
        case('another suffix', data, file='x.png' if not name.endswith('.png') else 'x.jpg',
             harmless=True)
    add_bombs()
    for kind, make in NO_FILE.items():
        for target in ('picture', 'predict_picture'):
            for name in ('x.png', 'x.dcm'):
                add('a pictures', f'{kind} as {name} {target}', target, name, instead(name, make),
                    oracle='none')
    add('a pictures', 'mask untouched', 'mask', 'a.png', put('a.png', mask_png()), harmless=True,
        oracle='mask:a.png')
    for i in range(8):
        add('a pictures', f'mask bit {i}', 'mask', 'a.png',
            put('a.png', flipped(mask_png(), gen('mask', i))), oracle='mask:a.png')
    for share in (0.3, 0.6, 0.95):
        add('a pictures', f'mask cut at {share}', 'mask', 'a.png',
            put('a.png', mask_png()[:int(share*len(mask_png()))]), oracle='mask:a.png')

def mask_png():
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    inside = ((y-30)/20)**2 + ((x-50)/30)**2 < 1
    return pillow('PNG', (inside*255).astype(np.uint8))

def lied_jpeg(h, w):
    b = bytearray(pillow('JPEG'))
    i = b.find(b'\xff\xc0')
    b[i+5:i+9] = struct.pack('>HH', h, w)
    return bytes(b)

def lied(data, at, form, *values):
    b = bytearray(data)
    struct.pack_into(form, b, at, *values)
    return bytes(b)

def add_bombs():
    "Headers that lie, and small files that become large."
    a = grey()
    z = zlib.compress(bytes(1 << 28), 9)
    text = b'Comment\0\0' + z
    big = {
        '30000x1.png': lambda: png(30000, 1),
        '1x30000.png': lambda: png(1, 30000),
        '9400x9400.png': lambda: png(9400, 9400),
        '9400x9400 rgb.png': lambda: png(9400, 9400, colour=2),
        '16 bit 9000.png': lambda: png(9000, 9000, bits=16),
        'claims 60000x60000.png': lambda: png(60000, 60000, rows=2),
        'claims 2147483647.png': lambda: png(2**31 - 1, 1, rows=0),
        '0x0.png': lambda: png(0, 0),
        'iccp.png': lambda: png(32, 32, more=chunk(b'iCCP', b'x\0\0' + z)),
        'ztxt.png': lambda: png(32, 32, more=chunk(b'zTXt', text)*4),
        'itxt.png': lambda: png(32, 32, more=chunk(b'iTXt', b'Comment\0\1\0\0\0' + z)*4),
        'claims 65535.jpg': lambda: lied_jpeg(65535, 65535),
        'claims 30000.jpg': lambda: lied_jpeg(30000, 64),
        'claims.bmp': lambda: lied(pictures()['a.bmp'], 18, '<ii', 1 << 20, 1 << 20),
        'claims 9000.bmp': lambda: lied(pictures()['a.bmp'], 18, '<ii', 9000, 9000),
        'claims.gif': lambda: lied(pictures()['a.gif'], 6, '<HH', 65535, 65535),
        'claims.pgm': lambda: b'P5 100000 100000 255\n' + bytes(100),
        'digits.pgm': lambda: b'P5 ' + b'9'*100000 + b' 1 255\n',
        'claims.npy': lambda: npy(a).replace(b'(64, 96), ', b'(9999999, 99999), ')[:128] + a.
        tobytes(),
        'big header.npy': lambda: b'\x93NUMPY\x02\x00' + struct.pack('<I', 2**31) + b'{' + bytes(100
                                                                                                 ),
        'claims.mha': lambda: mha(a, '100000 100000'),
        'minus.mha': lambda: mha(a, '-96 64'),
        'claims.nrrd': lambda: nrrd(a, '100000 100000'),
        'minus.nrrd': lambda: nrrd(a, '-96 64'),
        'claims.nii': lambda: nifti(a, (32000, 32000)),
        'minus.nii': lambda: nifti(a, (-96, 64)),
        'claims.dcm': lambda: dicom(a, Rows=65535, Columns=65535),
        'frames.dcm': lambda: dicom(a, NumberOfFrames='1000000'),
        'deflated.dcm': lambda: dicom(np.zeros((16000, 16000), np.uint8), True),
        'zeros.nii.gz': lambda: gz(nifti(a) + bytes(1 << 29)),
        '8500x8500.npy': lambda: npy(np.zeros((8500, 8500), np.uint8)),
        'float 8500.npy': lambda: npy(np.zeros((8500, 8500), np.float64)),
        'external.mha': lambda: mha(a).replace(b'LOCAL', b'home/secret.raw'),
        'external.nrrd': lambda: nrrd(a).replace(b'\n\n', b'\ndata file: home/secret.raw\n\n', 1),
    }
    for name, make in big.items():
        for target in ('picture', 'predict_picture'):
            if target == 'picture' and name == 'float 8500.npy': continue
            add('a pictures', f'{name} {target}', target, name, put(name, lambda d, m=make: m()),
                oracle='-')

def gz(data):
    c = zlib.compressobj(9, wbits=31)
    return c.compress(data) + c.flush()

# (b) archives and downloads

def archive(*members, note=b''):
    "A zip of (name or ZipInfo, bytes) pairs."
    f = BytesIO()
    import warnings
    with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for m, data in members: z.writestr(m, data)
    return f.getvalue()

def link_member(name, to):
    m = zipfile.ZipInfo(name)
    m.external_attr = 0o120777 << 16
    return m, to

def add_archives():
    ok = [('training_set/000_HC.png', b'x'*5000), ('training_set/001_HC.png', b'y'*300)]
    good = archive(*ok)
    def case(what, data, **kw):
        add('b archives', f'zip {what}', 'unpack', 'a.zip', put('a.zip', data),
            **{'oracle': 'unpack:a.zip', **kw})
    case('untouched', good, harmless=True)
    for i, n in enumerate(('../home/x.txt', '/tmp/x', 'a/../../home/x.txt', 'C:\\x', '..\\x',
                           'a/./b', 'a//b', '.', '..', 'x:y', 'nul!l')):
        case(f'name {i}', archive(*ok, (n, b'evil')).replace(b'nul!l', b'nul\0l'), oracle='none')
    case('link out', archive(*ok, link_member('training_set/l', '../../home')), oracle='none')
    case('link, then through it', archive(link_member('l', '../home'), ('l/x.txt', b'evil')),
         oracle='none')
    case('one name twice', archive(*ok, ok[0]), oracle='none')
    case('two cases of a name', archive(*ok, ('training_set/000_hc.PNG', b'')), oracle='none')
    case('file and folder', archive(*ok, ('training_set/000_HC.png/x', b'')), oracle='none')
    case('bomb', archive(('x', bytes(1 << 28))), oracle='none')
    case('30000 members', archive(*((f'{i}', b'') for i in range(30000))), oracle='none')
    case('long name', archive(*ok, ('x'*300, b'')), oracle='none')
    for i in range(16): case(f'bit {i}', flipped(good, gen('zip', i)), free=True)
    for s in (0.2, 0.6, 0.98): case(f'cut at {s}', good[:int(s*len(good))])
    for what in ('file size', 'compressed size'):
        at = 24 if what == 'file size' else 20
        i = good.find(b'PK\x01\x02')
        for v in (0, 1, 2**32-2):
            case(f'{what} {v}', lied(good, i + at, '<I', v), oracle='unpack:a.zip')
    case('empty', b'')
    for kind, make in NO_FILE.items():
        add('b archives', f'zip {kind}', 'unpack', 'a.zip', instead('a.zip', make), oracle='none')
    add_downloads(good)

def add_downloads(good):
    "Servers that lie."
    lies = dict(endless_record=True, endless_file=True, shorter=5, other=True, status=500,
                body='no JSON')
    def case(what, lie, **kw):
        def damage(d):
            (d/'training_set.zip').write_bytes(good)
            (d/'lie.json').write_text(json.dumps(lie))

        add('b archives', f'server {what}', 'download', ('127.0.0.1', 'out', 'training_set'),
            damage, **{'oracle': 'download:', **kw})
    case('untouched', {}, harmless=True)
    for k, v in lies.items(): case(k, {k: v})
    for i, body in enumerate(('[]', 'null', '""', '{}', '{"files": {}}', '{"files": [1]}',
                              '['*100000, '{"files": [{"key": 1}]}', 'NaN', '\ud800')):
        case(f'record {i}', dict(body=body))
    for k, values in dict(key=('../home/x', '/tmp/x', 5, None),
                          size=(-1, 0, 10**15, 'x', None, 1.5),
                          checksum=('', 'md5:', 'sha1:00', None, 7),
                          links=({}, None, dict(self='file:///etc/passwd'),
                                 dict(self=None))).items():
        for v in values: case(f'{k} {v}'[:60], dict(change={k: v}))
    def source(text):
        def damage(d):
            (d/'training_set.zip').write_bytes(good)
            (d/'out.download').mkdir()
            (d/'out.download'/'SOURCE.json').write_bytes(text)
        return damage
    import downloads
    url = f'{downloads.BASE}/api/records/1327317'
    for i, doc in enumerate(('[]', 'null', '', '{}', '['*50000, '{"url": 5}',
                             json.dumps(dict(url=url)), json.dumps(dict(url=url, files=[])),
                             json.dumps(dict(url=url, files=None)),
                             json.dumps(dict(url=url, files={'training_set.zip': 5})),
                             json.dumps(dict(url=url, files={'training_set.zip': dict(holds=[])})),
                             json.dumps(dict(url=url, files={'training_set.zip':
                                             dict(holds={'../home': [2, 1]})})),
                             json.dumps(dict(url=url, files={'training_set.zip':
                                             dict(holds={'training_set': 'x'})})))):
        add('b archives', f'SOURCE.json {i}', 'download', ('SOURCE.json', 'out'),
            source(doc.encode()), oracle='download:')

# (c) tables

def parsed(text):
    t = list(csv.reader(io.StringIO(text)))
    return t[0], t[1:]

def written(header, lines, sep=','):
    f = io.StringIO()
    csv.writer(f, delimiter=sep, lineterminator='\n').writerows([header, *lines])
    return f.getvalue().encode()

def is_number(cells):
    try: [float(c) for c in cells]
    except ValueError: return False
    return bool(cells)

VALUES = ('NaN', 'text', '0', '-1', '1e12', '1e400', '[]')

def table_faults(data, r, columns, plausible, free=()):
    "(what, bytes, options of `Input`) for a table."
    h, lines = parsed(data.decode())
    def with_cell(i, j, v): return [[v if (a, b) == (i, j) else c for b, c in enumerate(l)]
                                    for a, l in enumerate(lines)]
    yield 'BOM', b'\xef\xbb\xbf' + data, dict(harmless=True)
    yield 'CRLF', data.replace(b'\n', b'\r\n'), dict(harmless=True)
    yield 'one more column', written([*h, 'remark'], [[*l, 'x'] for l in lines]), dict()
    yield 'other order', written(h[::-1], [l[::-1] for l in lines]), dict()
    yield 'semicolons', written(h, lines, ';'), {}
    yield 'tabs', written(h, lines, '\t'), {}
    yield 'UTF-16', data.decode().encode('utf-16'), {}
    yield 'Latin-1', written(h, with_cell(0, 0, 'f\xfctus')).decode().encode('latin-1'), {}
    yield 'row twice', written(h, [*lines, lines[0]]), {}
    yield 'row cut', written(h, [lines[0][:-1], *lines[1:]]), {}
    yield 'row long', written(h, [[*lines[0], '1'], *lines[1:]]), {}
    yield 'quote', data + b'"', {}
    yield 'NUL', data[:-10] + b'\0' + data[-10:], {}
    yield '10 MB cell', written(h, with_cell(0, 0, 'x'*10_000_000)), {}
    yield 'empty', b'', {}
    yield 'header alone', written(h, []), {}
    yield 'no header', data.split(b'\n', 1)[1], {}
    yield 'cut', data[:int(0.7*len(data))], {}
    yield 'noise', r.randbytes(500), {}
    yield 'column twice', written([h[0], *h[:-1]], lines), {}
    yield 'formula', written(h, with_cell(0, 0, '=1+1')), {}
    yield 'control', written(h, with_cell(0, 0, '\x1b[31mred')), {}
    for c in r.sample(h, min(columns, len(h))):
        j = h.index(c)
        yield f'no {c}', written(h[:j] + h[j+1:], [l[:j] + l[j+1:] for l in lines]), {}
    numbers = [c for j, c in enumerate(h) if is_number([l[j] for l in lines if l[j]])]
    for c in r.sample(numbers, min(columns, len(numbers))):
        for v in r.sample(VALUES, 3):
            if v == '0' and c in ('epoch', 'bits'): continue
            may = v in plausible or c in free and v in ('0', '-1', '1e12')
            yield f'{c} {v}', written(h, with_cell(len(lines)-1, h.index(c), v)), dict(free=may)

# numbers that may be anything finite, so that no reader can know better
FREE = ('area_error', 'train_loss', 'valid_loss', 'seconds', 'offset_row', 'offset_col', 'change',
        'disagreement', 'unlike', 'hd', 'hd95', 'assd', 'tp', 'fp', 'fn', 'ellipse_row',
        'ellipse_col', 'ellipse_a', 'ellipse_b', 'ellipse_angle_deg')

def another(what):
    "Is a table with this damage as good a table, of other cases or with fewer columns?"
    needed = ('case', 'dice', 'exam', 'split', 'flag', 'note', 'time')
    return (what in ('formula', 'control', '10 MB cell')
            or what.startswith('no ') and what != 'no header' and what[3:] not in needed)

def add_tables(world):
    inside = dict(cases=('prepared/cases.csv', ('evaluate', 'verify', 'train_new')),
                  scores=('scores.csv', ('against', 'explore')), log=('run/log.csv', ('card',)),
                  seen=('run/seen.csv', ('evaluate',)), notes=('notes.csv', ('explore',)),
                  predictions=('predictions/predictions.csv', ('predict_more',)))
    for name, (file, targets) in inside.items():
        data = (world/file).read_bytes()
        for target in targets:
            some = 2 if target == 'train_new' else 3
            plausible = () if name == 'cases' else ('0', 'NaN')
            for what, new, kw in table_faults(data, gen(name, target), some, plausible, FREE):
                free = name in ('scores', 'notes') and another(what)
                # nothing was noted yet
                free |= name == 'notes' and what == 'header alone'
                add('c tables', f'{file} {what} {target}', target, file, put(file, new),
                    **{**kw, 'free': free or kw.get('free', False)})
            for kind, make in NO_FILE.items():
                # a run may have no list of what it has seen: of an earlier version
                add('c tables', f'{file} {kind} {target}', target, file, instead(file, make),
                    free=name == 'seen' and kind in ('loop', 'nowhere'))
    add_given(world)

def add_given(world):
    "Tables that a user writes: exams, spacing, split."
    h, lines = parsed((world/'prepared'/'cases.csv').read_text())
    names = [l[h.index('case')] for l in lines]
    given = dict(exams=(['case', 'exam'], [[n, f'e{i//2}'] for i, n in enumerate(names)]),
                 spacing=(['case', 'spacing'], [[n, '0.25'] for n in names]),
                 split=(['case', 'split'], [[n, ('train', 'valid', 'test')[i % 3]]
                                            for i, n in enumerate(names)]))
    for name, (head, rows) in given.items():
        data = written(head, rows)
        add('c tables', f'{name} untouched', name, f'{name}.csv', put(f'{name}.csv', data),
            harmless=True, oracle=f'{name}:{name}.csv')
        for what, new, kw in table_faults(data, gen(name), 3, ()):
            kw = dict(kw, free=kw.get('free', False) or what == 'cut' or another(what))
            add('c tables', f'{name} {what}', name, f'{name}.csv', put(f'{name}.csv', new),
                **{'oracle': f'{name}:{name}.csv', **kw})
        for kind, make in NO_FILE.items():
            add('c tables', f'{name} {kind}', name, f'{name}.csv', instead(f'{name}.csv', make),
                oracle='none')

# (d) JSON

def places(o, at=()):
    "The places of a document: of a list, those of its first entry."
    some = o.items() if isinstance(o, dict) else enumerate(o[:1]) if isinstance(o, list) else ()
    for k, v in some:
        yield (*at, k)
        yield from places(v, (*at, k))

def value(o, at):
    for k in at: o = o[k]
    return o

class Raw(str): "A number as it is written."

def changed(doc, at, new):
    "The text of a document with one entry replaced; `...` takes it away."
    doc = json.loads(json.dumps(doc))
    o = value(doc, at[:-1])
    if new is ...: del o[at[-1]]
    else: o[at[-1]] = '@@' if isinstance(new, Raw) else new
    text = json.dumps(doc)
    return (text.replace('"@@"', new, 1) if isinstance(new, Raw) else text).encode()

HOSTILE = ('text', -1, 0, 10**12, Raw('1e400'), Raw('NaN'), Raw('Infinity'), [], None, True,
           {}, Raw('-0.5'), Raw('9'*400))

def json_faults(data, r, each=2, most=60):
    "(what, bytes, place) for a JSON document."
    doc = json.loads(data)
    for what, new in {
            '[]': b'[]', 'null': b'null', 'nothing': b'', 'text': b'""', '{}': b'{}',
            'deep': b'['*200000, 'deep object': b'{"a":'*200000, 'cut': data[:len(data)//2],
            'UTF-16': data.decode().encode('utf-16'), 'noise': r.randbytes(300),
            'twice': data + data, 'number': b'5'
    }.items():
        yield what, new, ()
    yield 'BOM', b'\xef\xbb\xbf' + data, None
    yield 'other order', json.dumps(dict(reversed(list(doc.items())))).encode(), None
    if 'format' in doc:
        for v in (99, 0, -1, 'x', None): yield f'format {v}', changed(doc, ('format',), v), ()
    at = list(dict.fromkeys(places(doc)))
    if len(at) > most: at = r.sample(at, most)
    for p in at:
        old = value(doc, p)
        yield f'{".".join(map(str, p))} missing', changed(doc, p, ...), p
        if isinstance(old, bool) or old is None or not isinstance(old, (int, float, list)): n = 1
        else: n = each
        for v in r.sample(HOSTILE, n):
            if v == old and type(v) is type(old): continue
            yield f'{".".join(map(str, p))} {v!r:.20}', changed(doc, p, v), p

# entries of which a reader cannot know: what was measured, and what people wrote
FREE_ENTRIES = ('familiar', 'fitted_on', 'labels', 'output', 'environments', 'data', 'how_scored')

def add_json(world):
    docs = {
        'run/predictor.json': dict(predict=2, evaluate=0), 'net.json': dict(predict_onnx=1),
        'run/train.json': dict(train_more=1, card=1), 'half/train.json': dict(resume=0),
        'prepared/prepare.json': dict(train_new=0, verify=1, prepare_again=0),
        'verify.json': dict(explore=1), 'summary.json': dict(summary=1), 'demo.json': dict(demo=2),
        'folds/fold-0/fold.json': dict(crossval=1), 'folds/crossval.json': dict(crossval=0),
        'nnunet/dataset.json': dict(nnunet=1), 'coco/instances.json': dict(coco=2)
    }
    for file, targets in docs.items():
        data = (world/file).read_bytes()
        for target, each in targets.items():
            most = {2: 20, 1: 10, 0: 4}[each]
            for what, new, at in json_faults(data, gen(file, target), max(1, each), most):
                free = bool(at) and (at[0] in FREE_ENTRIES or file in MEASURED
                                     or at[0] == 'post' and what.split()[1] == 'missing')
                add('d JSON', f'{file} {what} {target}', target, file, put(file, new),
                    harmless=at is None, free=free)
            for kind in ('fifo', 'folder', 'endless'):
                add('d JSON', f'{file} {kind} {target}', target, file,
                    instead(file, NO_FILE[kind]))
    add_lines(world)
    add_journals()

# findings and figures for people: a finite number in them is as good as another
MEASURED = ('verify.json', 'summary.json', 'coco/instances.json', 'nnunet/dataset.json')

def add_lines(world):
    "manifest.jsonl."
    file = 'prepared/manifest.jsonl'
    data = (world/file).read_bytes()
    lines = data.split(b'\n')
    r = gen('manifest')
    def case(what, new, **kw):
        for target in ('prepare_again', 'verify'):
            add('d JSON', f'{file} {what} {target}', target, file, put(file, new), **kw)
    for what, new in {'empty': b'', 'noise': r.randbytes(300), '[]': b'[]\n' + data,
                      'null': b'null\n' + data, 'deep': b'['*200000 + b'\n' + data,
                      'cut': data[:-50], 'twice': lines[0] + b'\n' + data}.items():
        case(what, new)
    doc = json.loads(lines[0])
    for k in r.sample(list(doc), 10):
        for v in r.sample(HOSTILE, 1):
            case(f'{k} {v!r:.12}', changed(doc, (k,), v) + b'\n' + b'\n'.join(lines[1:]))

def add_journals():
    file = 'prepared/.work/journal.json'
    out = ('../home/x.txt', '@/home/x.txt', 'train/../../home/x.txt')
    docs = {f'drop {i}': dict(phase=1, park=[], drop=[n], place=[]) for i, n in enumerate(out)}
    for i, n in enumerate(out):
        docs[f'park {i}'] = dict(phase=1, park=[[n, '.work/x']], drop=[], place=[])
        docs[f'place {i}'] = dict(phase=2, park=[], drop=[], place=[['train/images/1_HC.png', n]])
        docs[f'place from {i}'] = dict(phase=2, park=[], drop=[], place=[[n, 'train/images/y.png']])
    good = dict(phase=1, park=[], drop=[], place=[])
    for k in good: docs[f'no {k}'] = {a: b for a, b in good.items() if a != k}
    for k in good:
        for i, v in enumerate(('x', 5, None, [5], [[1, 2]], [['a']], {}, 'NUL\0', ['NUL\0'])):
            docs[f'{k} {i}'] = dict(good, **{k: v})
    def case(what, new):
        def damage(d):
            (d/file).parent.mkdir(exist_ok=True)
            (d/file).write_bytes(new.replace(b'@', str(d).encode()))
        group = 'e paths' if what.startswith(('drop', 'park', 'place')) else 'd JSON'
        add(group, f'journal {what}', 'prepare_again', file, damage)
    for what, doc in docs.items(): case(what, json.dumps(doc).encode())
    for i, b in enumerate((b'[]', b'null', b'', b'['*100000, b'{"phase": 1')): case(f'text {i}', b)

# (e) paths

BAD_PATHS = dict(up='../home/secret', far='../../../../../../../../etc/hosts',
                 absolute='@/home/secret', inner='x/../../home/secret', nul='a\0b', dot='.',
                 dots='..', slash='a/b', blank='', long='x'*300, back='..\\home\\secret',
                 line='a\nb')

def add_paths(world):
    h, lines = parsed((world/'prepared'/'cases.csv').read_text())
    test = next(i for i, l in enumerate(lines) if l[h.index('split')] == 'test')
    for column in ('case', 'split'):
        for what, name in BAD_PATHS.items():
            def damage(d, name=name, column=column):
                new = [list(l) for l in lines]
                new[test][h.index(column)] = name.replace('@', str(d))
                (d/'prepared'/'cases.csv').write_bytes(written(h, new))
            readers = ('evaluate', 'verify', 'explore', 'train_new', 'prepare_again')
            for target in gen(column, what).sample(readers, 3):
                add('e paths', f'cases.csv {column} {what} {target}', target,
                    ('cases.csv', name or '.'), damage, must_find=target == 'verify',
                    # another case's name on this system; the explorer asks for no digest
                    free=(target, column) == ('explore', 'case') and what in ('back', 'line'))
    for what, name in BAD_PATHS.items():
        def coco(d, name=name):
            doc = json.loads((d/'coco'/'instances.json').read_text())
            doc['images'][0]['file_name'] = name.replace('@', str(d)) + '.png'*(what != 'nul')
            (d/'coco'/'instances.json').write_text(json.dumps(doc))

        add('e paths', f'COCO file_name {what}', 'coco', ('instances.json', 'coco', name or '.'),
            coco, free=True)
        def ending(d, name=name):
            doc = json.loads((d/'nnunet'/'dataset.json').read_text())
            doc['file_ending'] = name.replace('@', str(d))
            (d/'nnunet'/'dataset.json').write_text(json.dumps(doc))
        add('e paths', f'nnU-Net file_ending {what}', 'nnunet', ('dataset.json', 'nnunet'), ending)
    for name in ('test', 'test/images', 'test/masks', 'train', 'train/images'):
        def link(d, name=name):
            (d/'prepared'/name).rename(d/'home'/'moved')
            (d/'prepared'/name).symlink_to(d/'home'/'moved', target_is_directory=True)
        for target in ('prepare_again', 'evaluate', 'verify'):
            add('e paths', f'link out at {name} {target}', target, ('prepared', name), link)
    def picture(d):
        p = sorted((d/'prepared'/'test'/'images').iterdir())[0]
        p.unlink()
        p.symlink_to(d/'home'/'secret.png')
    for target in ('evaluate', 'verify', 'predict'):
        add('e paths', f'picture is a link out {target}', target, 'prepared', picture,
            must_find=target == 'verify', free=target == 'predict')

# (f) code

class Canary:
    "Unpickled, it makes a file."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return os.mkdir, (self.path,)

def pickled(d, protocol=2): return pickle.dumps(dict(model=Canary(d/'home'/'executed')), protocol)

def as_torch(d):
    import torch
    f = BytesIO()
    torch.save(dict(model=Canary(d/'home'/'executed'), rows=[], best=0, next=1), f)
    return f.getvalue()

def as_npy(d):
    return npy(np.array([Canary(d/'home'/'executed')], object), allow_pickle=True)

def add_code(world):
    states = sorted(p.name for p in (world/'half').iterdir()
                    if p.suffix in ('.pth', '.pt', '.safetensors') or 'last' in p.name
                    or 'state' in p.name)
    for name in dict.fromkeys([*states, 'last.pth']):
        file, old = f'half/{name}', world/'half'/name
        for what, make in dict(pickle=pickled, torch=as_torch, npy=as_npy).items():
            kw = {} if old.exists() else dict(oracle='-')
            add('f code', f'{file} {what}', 'resume', ('half',), put(file, make), **kw)
        if not old.exists(): continue
        data = old.read_bytes()
        new = {'empty': b'', 'cut': data[:len(data)//2], 'byte': data[:-1], 'zeros': bytes(1000),
               'noise': gen(name).randbytes(2000), '[]': b'[]',
               **{f'bit {i}': flipped(data, gen(name, i)) for i in range(6)}}
        for what, b in new.items():
            add('f code', f'{file} {what}', 'resume', ('half',), put(file, b),
                free=what.startswith('bit') and name.endswith('safetensors'))
        for kind in ('fifo', 'folder', 'endless'):
            add('f code', f'{file} {kind}', 'resume', ('half',), instead(file, NO_FILE[kind]))
    file = 'run/weights.safetensors'
    data = (world/file).read_bytes()
    n = struct.unpack('<Q', data[:8])[0]
    head = json.loads(data[8:8+n])
    first = next(k for k in head if k != '__metadata__')
    def with_head(**change):
        h = dict(head, **{first: dict(head[first], **change)})
        b = json.dumps(h).encode()
        return struct.pack('<Q', len(b)) + b + data[8+n:]
    new = dict(pickle=pickled, torch=as_torch, npy=as_npy, empty=b'', cut=data[:len(data)//2],
               byte=data[:-1], huge=struct.pack('<Q', 2**62) + data[8:],
               long=struct.pack('<Q', len(data)*2) + data[8:], deep=struct.pack('<Q', 90000)
               + b'['*90000, shape=with_head(shape=[10**9, 10**9]), minus=with_head(shape=[-1]),
               offsets=with_head(data_offsets=[0, 2**60]), dtype=with_head(dtype='F64'),
               nan=data[:8+n] + b'\xff'*(len(data)-8-n))
    for what, b in new.items():
        add('f code', f'{file} {what}', 'predict', 'weights.safetensors', put(file, b))
    for kind in NO_FILE:
        add('f code', f'{file} {kind}', 'predict', 'weights.safetensors',
            instead(file, NO_FILE[kind]))
    for protocol in (0, 2, 4, 5):
        for name in ('x.npy', 'x.png', 'x.dcm'):
            add('f code', f'{name} pickle {protocol}', 'picture', name,
                put(name, lambda d, p=protocol: pickled(d, p)), oracle='none')
    add('f code', 'x.npy object array', 'picture', 'x.npy', put('x.npy', as_npy), oracle='none')
    add('f code', 'x.npy object array predict', 'predict_picture', 'x.npy', put('x.npy', as_npy),
        oracle='none')
    add_onnx(world)

def add_onnx(world):
    def net(nodes, initial=(), opsets=(), shape=(1, 1, 32, 48)):
        import onnx
        from onnx import TensorProto as T, helper as H
        i = H.make_tensor_value_info(NAMES[0], T.FLOAT, shape)
        o = H.make_tensor_value_info(NAMES[1], T.FLOAT, None)
        g = H.make_graph(nodes, 'g', [i], [o], list(initial))
        ids = [H.make_opsetid('', 17), *opsets]
        return H.make_model(g, opset_imports=ids, ir_version=8).SerializeToString()
    def node(*a, **kw):
        from onnx import helper as H
        return H.make_node(*a, **kw)
    doc = json.loads((world/'net.json').read_text())['onnx']
    NAMES = doc['input']['name'], doc['output']['name'] if 'output' in doc else 'logits'
    def external(where):
        from onnx import TensorProto as T, helper as H
        t = T(name='c', data_type=T.FLOAT, dims=[1], data_location=T.EXTERNAL)
        for k, v in dict(location=where, length='4').items(): t.external_data.add(key=k, value=v)
        return net([node('Add', [NAMES[0], 'c'], [NAMES[1]])], [t])
    def endless():
        from onnx import TensorProto as T, helper as H
        b = H.make_graph([node('Identity', ['go_in'], ['go_out']), node('Identity', ['v'], ['w'])],
                         'b', [H.make_tensor_value_info('n', T.INT64, []),
                               H.make_tensor_value_info('go_in', T.BOOL, []),
                               H.make_tensor_value_info('v', T.FLOAT, None)],
                         [H.make_tensor_value_info('go_out', T.BOOL, []),
                          H.make_tensor_value_info('w', T.FLOAT, None)])
        yes = H.make_tensor('yes', T.BOOL, [], [True])
        return net([node('Loop', ['', 'yes', NAMES[0]], [NAMES[1]], body=b)], [yes])
    def large():
        from onnx import TensorProto as T, helper as H
        s = H.make_tensor('s', T.INT64, [4], [1, 1, 60000, 60000])
        return net([
            node('ConstantOfShape', ['s'], ['c']),
            node('ReduceSum', ['c'], ['r'], keepdims=1),
            node('Add', [NAMES[0], 'r'], [NAMES[1]])
        ], [s])
    data = (world/'net.onnx').read_bytes()
    new = dict(external=lambda d: external('home/secret.raw'),
               up=lambda d: external('../home/x.txt'),
               absolute=lambda d: external(str(d/'home'/'x.txt')), loop=lambda d: endless(),
               large=lambda d: large(), empty=b'', cut=data[:len(data)//2], noise=data[::-1],
               pickle=pickled, text=b'hello',
               custom=lambda d: net([node('Evil', [NAMES[0]], [NAMES[1]], domain='evil')]),
               scalar=lambda d: net([node('ReduceMean', [NAMES[0]], [NAMES[1]], keepdims=0)]),
               shape=lambda d: net([node('Identity', [NAMES[0]], [NAMES[1]])], shape=(1, 3, 8, 8)))
    for what, b in new.items():
        # one of another network is a network too, and the files beside it are its own
        add('f code', f'net.onnx {what}', 'predict_onnx', ('net.onnx', 'net.json'),
            put('net.onnx', b), free=what == 'external')
    for kind in NO_FILE:
        add('f code', f'net.onnx {kind}', 'predict_onnx', 'net.onnx',
            instead('net.onnx', NO_FILE[kind]))

# (g) digests

def add_digests(world):
    def other(kind, split, how):
        def damage(d):
            ps = sorted((d/'prepared'/split/kind).iterdir())
            if how == 'swapped':
                a, b = ps[0].read_bytes(), ps[1].read_bytes()
                ps[0].write_bytes(b); ps[1].write_bytes(a)
            elif how == 'copied': ps[0].write_bytes(ps[1].read_bytes())
            elif how == 'gone': ps[0].unlink()
            else:
                from PIL import Image
                a = np.array(Image.open(ps[0]))
                a[:4, :4] = 255 - a[:4, :4]
                Image.fromarray(a).save(ps[0])
        return damage
    for kind in ('images', 'masks', 'full_masks'):
        for split, targets in dict(test=('evaluate', 'verify'),
                                   train=('train_new', 'verify')).items():
            for how in ('swapped', 'copied', 'edited', 'gone'):
                for t in targets:
                    add('g digests',
                        f'{split}/{kind} {how} {t}', t, ('prepared', f'{split}/{kind}'),
                        other(kind, split, how), must_find=t == 'verify')
    h, lines = parsed((world/'prepared'/'cases.csv').read_text())
    test = [i for i, l in enumerate(lines) if l[h.index('split')] == 'test']
    def row(column, v):
        def damage(d):
            new = [list(l) for l in lines]
            new[test[0]][h.index(column)] = v
            (d/'prepared'/'cases.csv').write_bytes(written(h, new))
        return damage
    edits = dict(split='train', exam=lines[test[1]][h.index('exam')], height='60', scale_row='1.2',
                 image_sha256='0'*64, annotation_sha256='0'*64, spacing_row='0.5', area='0.9',
                 offset_col='3.0', method='filled')
    for c, v in edits.items():
        for t in ('evaluate', 'verify', 'train_new'):
            add('g digests', f'cases.csv {c} edited {t}', t, ('cases.csv', 'prepared'), row(c, v),
                must_find=t == 'verify')
    def less(d): (d/'prepared'/'cases.csv').write_bytes(
        written(h, [l for i, l in enumerate(lines) if i != test[0]]))
    for t in ('evaluate', 'verify', 'train_new'):
        add('g digests', f'cases.csv row gone {t}', t, ('cases.csv', 'prepared'), less,
            must_find=t == 'verify')
    for k in ('key', 'digest'):
        change = lambda b, k=k: changed(json.loads(b), (k,), '0'*64)
        add('g digests', f'prepare.json {k} verify', 'verify', 'prepared',
            edit('prepared/prepare.json', change), must_find=True)
    def manifest(b):
        ls = b.split(b'\n')
        return b'\n'.join([changed(json.loads(ls[0]), ('images',), '0'*64), *ls[1:]])
    for t in ('verify', 'prepare_again'):
        add('g digests', f'manifest.jsonl edited {t}', t, 'prepared',
            edit('prepared/manifest.jsonl', manifest), must_find=t == 'verify')

# (h) the terminal

def add_terminal():
    names = dict(escape=b'\x1b[31mred\x1b[0m', bell=b'a\x07b', line=b'a\nb', back=b'a\rb',
                 title=b'\x1b]0;x\x07', c1='a\u009b31mb'.encode(), surrogate=b'f\xfctus',
                 accents='f\xf6tus \u8336'.encode(), turned='a\u202eb'.encode(), long=b'x'*240,
                 formula=b'=1+1', quote=b'a"b', space=b'  a ', minus=b'--help', delete=b'a\x7fb')
    for what, n in names.items():
        for ending in (b'.png', b'_Annotation.png'):
            def damage(d, n=n[:230], ending=ending):
                folder = sorted(d.glob('raw/**/*.png'))[0].parent
                with open(os.path.join(os.fsencode(folder), n + ending), 'wb') as f:
                    f.write(b'no picture' if ending == b'.png' else mask_png())
            add('h terminal', f'{what} {ending.decode()}', 'shown', 'raw', damage,
                oracle='')
        def picture(d, n=n[:230]):
            with open(os.path.join(os.fsencode(d), b'in ' + n + b'.png'), 'wb') as f:
                f.write(b'no picture')
        name = os.fsdecode(b'in ' + n[:230] + b'.png')
        add('h terminal', f'{what} predict', 'predict_picture', (name,), picture, oracle='none')

# (i) resources

def add_resources():
    for target in ('predict', 'evaluate', 'prepare_again', 'train_new', 'card', 'exams', 'verify'):
        for most in (0, 300, 4000):
            def damage(d, most=most, target=target):
                if target == 'exams':
                    rows = [[p.name[:-4], 'e'] for p in d.glob('raw/**/*_HC.png')]
                    (d/'exams.csv').write_bytes(written(['case', 'exam'], rows))
                if target == 'prepare_again': (d/'prepared'/'cases.csv').unlink()
                import resource
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            names = ('exams.csv', 'prepared', 'out', 'new', 'run')
            oracle = '-' if target == 'exams' else ''
            add('i resources', f'full disk {most} {target}', target, names, damage, oracle=oracle)
    for target, out in dict(predict='out', evaluate='out', train_new='new', exams='out').items():
        for kind, make in NO_FILE.items():
            if kind == 'folder': continue
            def damage(d, out=out, make=make, target=target):
                if target == 'exams':
                    rows = [[p.name[:-4], 'e'] for p in d.glob('raw/**/*_HC.png')]
                    (d/'exams.csv').write_bytes(written(['case', 'exam'], rows))
                make(d/out)
            add('i resources', f'{kind} for the results {target}', target, out, damage, oracle='-')
    for size in ([100000, 100000], [2**31, 1], [1, 1], [10**6, 32], [32, 4]):
        for key in ('size', 'canvas'):
            change = lambda b, s=size, k=key: changed(json.loads(b), (k,), s)
            for target, file in dict(predict='run/predictor.json', predict_onnx='net.json').items():
                add('i resources', f'{file} {key} {size}', target, file, edit(file, change))
    for k, v in dict(width=10**6, depth=60, c_in=10**6, c_out=10**6, norm='x').items():
        change = lambda b, k=k, v=v: changed(json.loads(b), ('network', k), v)
        add('i resources', f'predictor.json network {k}', 'predict', ('predictor.json', 'weights'),
            edit('run/predictor.json', change))

def all_inputs(world):
    INPUTS.clear(); NAMES.clear()
    add_pictures(); add_archives(); add_tables(world); add_json(world); add_paths(world)
    add_code(world); add_digests(world); add_terminal(); add_resources()
    return INPUTS
