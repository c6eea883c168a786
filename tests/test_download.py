"""Downloads that go wrong: cut, refused, lied to, killed, two at a time; archives that bite.

Loopback only.
"""
import hashlib, io, json, os, random, re, signal, stat, struct, subprocess, sys, threading, time
import types, zipfile, zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest
from fetal_seg import download as D
from fetal_seg.core import InputError, read_json

pytestmark = pytest.mark.filterwarnings('error::ResourceWarning')
rng = random.Random(0)
DATA = rng.randbytes(100_000)   # no whole number of chunks
md5 = lambda b: hashlib.md5(b).hexdigest()

# A server that can misbehave. Each request for a file takes the next step of `plan`, or is served
# well when there is none.

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'   # one request a connection: its end is the end of the body
    def log_message(self, *args): pass
    def do_GET(self):
        s, self.server.last = self.server, dict(self.headers)
        s.asked.append(
            (self.path.rsplit('/', 1)[-1], self.headers.get('Range'), self.headers.get('If-Range')))
        is_record = self.path.startswith('/api/records/') and '/files/' not in self.path
        plan = s.record_plan if is_record else s.plan
        step = plan.pop(0) if plan else serve
        try: step(self, s.files.get(self.path))
        except (BrokenPipeError, ConnectionResetError): pass
    def answer(self, code, body=b'', n=None, **headers):
        "An answer that announces its length, and sends `n` bytes of it."
        self.send_response(code)
        for k, v in ({'Content-Length': len(body)}
                     | {k.replace('_', '-'): v
                        for k, v in headers.items()}).items():
            if v is not None: self.send_header(k, str(v))
        self.end_headers()
        for i in range(0, len(body[:n]), 1 << 14):
            self.server.sent += len(body[:n][i:i+(1 << 14)])
            self.wfile.write(body[:n][i:i+(1 << 14)])
            time.sleep(self.server.pause)

def serve(h, body, n=None, tag=None, if_range=True, **headers):
    "As a good server does: ranges, ETag, If-Range, 404, 416."
    if body is None: return h.answer(404)
    tag = tag or f'"{md5(body)}"'
    m = re.fullmatch(r'bytes=(\d+)-', h.headers.get('Range') or '')
    if m and if_range and h.headers.get('If-Range') not in (None, tag): m = None
    start = int(m[1]) if m else 0
    if start >= len(body) > 0: return h.answer(416, Content_Range=f'bytes */{len(body)}')
    of_range = dict(Content_Range=f'bytes {start}-{len(body)-1}/{len(body)}') if m else {}
    h.answer(206 if m else 200, body[start:], n, **(dict(ETag=tag) | of_range | headers))

def cut(n, **kw): return lambda h, body: serve(h, body, n, **kw)
def status(code, **headers): return lambda h, body: h.answer(code, **headers)
def whole(h, body):
    h.answer(200, body)  # knows no ranges
def other(data, n=None, **kw):
    return lambda h, body: serve(h, data, n, **kw)  # serves something else
def unannounced(n=None, data=None):
    return lambda h, body: h.answer(200, body if data is None else data, n, Content_Length=None)
def shifted(h, body): h.answer(206, body[5:], Content_Range=f'bytes 5-{len(body)-1}/{len(body)}')

@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    s.daemon_threads = True
    s.files, s.plan, s.record_plan, s.asked, s.sent, s.pause = {}, [], [], [], 0, 0
    s.base = f'http://127.0.0.1:{s.server_port}'
    t = threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True)
    t.start()
    yield s
    s.shutdown(); s.server_close(); t.join(5)

class Case:
    "One file on the server, and the calls that fetch it."
    def __init__(self, server, folder):
        self.server, self.waits = server, []
        self.path, self.part = folder/'a.bin', folder/'a.bin.part'
        server.files['/a.bin'] = DATA
        self.url = server.base + '/a.bin'

    def fetch(self, data=DATA, **kw):
        return D.fetch(self.url, self.path, len(data), md5(data),
                       **({'sleep': self.waits.append} | kw))
    def fails(self, match, **kw):
        with pytest.raises(InputError, match=match) as e: self.fetch(**kw)
        assert not self.path.exists() and '\n' not in str(e.value)
        return str(e.value)
    def ranges(self): return [r for _, r, _ in self.server.asked]

@pytest.fixture
def case(server, tmp_path): return Case(server, tmp_path)

# One file

def test_whole_then_nothing(case):
    assert case.fetch().read_bytes() == DATA
    assert case.fetch() == case.path and case.ranges() == [None] and not case.waits
    # a packed body has another size and MD5
    assert case.server.last['Accept-Encoding'] == 'identity'
    assert [p.name for p in case.path.parent.iterdir()] == ['a.bin']

@pytest.mark.parametrize('n', [0, 1, D.CHUNK-1, D.CHUNK, D.CHUNK+1, 50_000, len(DATA)-1])
def test_cut_is_resumed(case, n):
    case.server.plan = [cut(n)]
    assert case.fetch().read_bytes() == DATA
    kept = n // D.CHUNK * D.CHUNK
    assert case.ranges() == [None, f'bytes={kept}-' if kept else None]
    assert case.server.asked[1][2] == (f'"{md5(DATA)}"' if kept else None)
    assert case.server.sent == n + len(DATA) - kept

def test_cut_again_and_again(case):
    case.server.plan = [cut(20_000)] * 99
    error = case.fails('the connection was cut, at the last of 4 tries', tries=4)
    assert case.url in error and 'what has arrived is kept' in error
    assert case.waits == [1, 2, 4] and len(case.server.asked) == 4
    assert case.part.read_bytes() == DATA[:4*D.CHUNK]
    case.server.plan = []
    assert case.fetch().read_bytes() == DATA and case.ranges()[-1] == f'bytes={4*D.CHUNK}-'

def test_nobody_listens(case):
    case.server.shutdown(); case.server.server_close()
    case.fails('the connection failed .ConnectionError., at the last of 3 tries', tries=3)
    assert case.waits == [1, 2]

def test_server_without_ranges(case):
    case.server.plan = [cut(50_000), whole]
    assert case.fetch().read_bytes() == DATA
    assert case.ranges() == [None, f'bytes={3*D.CHUNK}-']

@pytest.mark.parametrize('code', [400, 401, 403, 404, 410, 451])
def test_not_there(case, code):
    case.server.plan = [status(code)]
    case.fails(f'the server answers {code}')
    assert len(case.server.asked) == 1 and not case.waits and not case.part.exists()

@pytest.mark.parametrize('after,wait', [('7', 7), (None, 1), ('soon', 1), ('0', 0), ('-3', 1),
                                        ('\xb2', 1), ('Wed, 21 Oct 2015 07:28:00 GMT', 0)])
@pytest.mark.parametrize('code', [429, 503])
def test_busy_then_served(case, code, after, wait):
    case.server.plan = [status(code, Retry_After=after)]
    assert case.fetch().read_bytes() == DATA and case.waits == [wait]

def test_busy_until_a_date(case):
    case.server.plan = [status(429, Retry_After=formatdate(time.time() + 50, usegmt=True))]
    case.fetch()
    assert len(case.waits) == 1 and 40 < case.waits[0] <= 50

@pytest.mark.parametrize('code', [429, 500, 502, 503, 504])
def test_busy_for_ever(case, code):
    case.server.plan = [cut(50_000)] + [status(code)] * 99
    case.fails(f'the server answers {code} .*at the last of 6 tries')
    assert case.waits == [1, 2, 4, 8, 8] and case.part.read_bytes() == DATA[:3*D.CHUNK]

def test_busy_for_longer_than_we_wait(case):
    case.server.plan = [status(429, Retry_After='3600')]
    case.fails('asks us to wait 3600 s')
    assert not case.waits and len(case.server.asked) == 1

def test_416_starts_again(case):
    case.part.write_bytes(DATA[:500])
    case.server.plan = [status(416)]
    assert case.fetch().read_bytes() == DATA and case.ranges() == ['bytes=500-', None]

def test_416_for_ever(case):
    case.server.plan = [status(416)] * 99
    case.fails('cannot go on where the download was cut, at the last of 6 tries')
    assert len(case.server.asked) == 6

@pytest.mark.parametrize('if_range', [True, False])
def test_another_version_between_parts(case, if_range):
    old = rng.randbytes(len(DATA))
    case.server.plan = [other(old, 50_000), lambda h, body: serve(h, body, if_range=if_range)]
    assert case.fetch().read_bytes() == DATA
    assert case.server.asked[1][1:] == (f'bytes={3*D.CHUNK}-', f'"{md5(old)}"')
    # without If-Range we see the other tag, and ask for the whole
    assert len(case.server.asked) == (2 if if_range else 3)

def test_weak_tags_are_not_sent(case):
    case.server.plan = [cut(50_000, tag='W/"1"'), cut(None, tag='W/"1"')]
    assert case.fetch().read_bytes() == DATA
    assert case.server.asked[1][1:] == (f'bytes={3*D.CHUNK}-', None)

def test_another_range_than_asked_for(case):
    case.server.plan = [cut(50_000), shifted]
    assert case.fetch().read_bytes() == DATA
    assert case.ranges() == [None, f'bytes={3*D.CHUNK}-', None]

def test_short_or_long_body_announced(case):
    for data in (DATA[:-1], DATA + b'x', b'<html>log in</html>'):
        case.server.plan = [other(data)]
        case.fails(f'sends {len(data)} bytes, the record says {len(DATA)}')
    assert not case.part.exists() and not case.waits

def test_a_wrong_answer_does_not_cost_what_arrived(case):
    case.server.plan = [cut(50_000), other(b'<html>log in</html>')]
    case.fails('sends 19 bytes')
    assert case.part.read_bytes() == DATA[:3*D.CHUNK]
    assert case.fetch().read_bytes() == DATA

def test_short_body_unannounced(case):
    case.server.plan = [unannounced(50_000)]
    assert case.fetch().read_bytes() == DATA
    assert case.ranges() == [None, 'bytes=50000-']   # an end that looks regular loses nothing

def test_long_body_unannounced(case):
    case.server.plan = [unannounced(data=DATA + bytes(50_000_000))]
    case.fails('sends .* bytes, the record says 100000')
    assert not case.part.exists() and case.server.sent < 20_000_000   # the rest is not read

def test_wrong_checksum(case):
    bad = DATA[:-1] + bytes([DATA[-1] ^ 1])
    case.server.plan = [other(bad)]
    error = case.fails('its MD5 is')
    assert md5(bad) in error and md5(DATA) in error
    assert not list(case.path.parent.iterdir())
    assert case.fetch().read_bytes() == DATA

def test_part_that_was_damaged_on_disk(case):
    case.part.write_bytes(b'x' * 500)
    case.fails('its MD5 is')
    assert not case.part.exists() and case.fetch().read_bytes() == DATA

@pytest.mark.parametrize('n', [len(DATA), len(DATA) + 1])
def test_part_that_is_complete_or_too_long(case, n):
    case.part.write_bytes((DATA + b'x')[:n])
    assert case.fetch().read_bytes() == DATA and case.ranges() == ([] if n == len(DATA) else [None])

def test_an_older_file_of_that_name(case):
    case.path.write_bytes(b'old')
    case.server.plan = [cut(50_000)]
    case.fetch()
    assert case.path.read_bytes() == DATA and len(case.server.asked) == 2

def test_empty_file(case): assert case.fetch(b'').read_bytes() == b''

def test_progress_bar(case, capsys, monkeypatch):
    case.fetch(desc='download')
    assert capsys.readouterr() == ('', '')                 # no terminal, no bar
    case.path.unlink()
    case.server.plan = [cut(50_000)]
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    case.fetch(desc='download')
    out, err = capsys.readouterr()
    assert out == '' and 'download: the connection was cut; trying again in 1 s' in err
    # the second bar starts at what was there
    assert '100k/100k' in err and re.search(r'download: +49%\|', err)

# The record

def record_of(server, content, number='1327317'):
    url = f'/api/records/{number}'
    for name, data in content.items(): server.files[f'{url}/files/{name}'] = data
    files = [dict(key=k, size=len(v), checksum='md5:' + md5(v),
                  links=dict(self=f'{server.base}{url}/files/{k}')) for k, v in content.items()]
    server.files[url] = json.dumps(dict(id=int(number), files=files)).encode()
    return server.base + url

@pytest.mark.parametrize('body', [
    b'', b'<html>', b'[]', b'null', b'{"files": 3}', b'{"files": [{"key": "a"}]}', b'\xff\xfe',
    b'{"files": [{"key": "a", "size": 1, "checksum": "sha256:00", "links": {"self": "x"}}]}',
    b'{"files": [{"key": "a", "size": "big", "checksum": "md5:%s", "links": {"self": "x"}}]}' %
    (b'0'*32)
])
def test_no_record(server, body):
    server.files['/r'] = body
    with pytest.raises(InputError, match='no Zenodo record'): D.zenodo_files(server.base + '/r', [])

def test_record_that_lacks_a_file(server):
    url = record_of(server, {'b.csv': b'1'})
    with pytest.raises(InputError, match='the record has no a.zip; it has b.csv'):
        D.zenodo_files(url, ['b.csv', 'a.zip'])

def test_record_after_waiting(server):
    url, waits = record_of(server, {'b.csv': b'1'}), []
    server.record_plan = [status(429, Retry_After='5'), cut(9), status(503)]
    files = D.zenodo_files(url, ['b.csv'], sleep=waits.append)
    assert files['b.csv'] == dict(url=url + '/files/b.csv', size=1, md5=md5(b'1'))
    assert waits == [5, 2, 4]

def record(**changes):
    "A record of one file, with a fault in it."
    file = dict(key='a', size=1, checksum='md5:' + '0'*32, links=dict(self='http://x/a'))
    return json.dumps(dict(files=[file | changes])).encode()

@pytest.mark.parametrize('body,says', [
    (record(size=-1), 'size is -1'), (record(size=1.5), 'size is 1.5'), (record(key='../a'), 'key'),
    (record(key='/a'), 'key'), (record(links=dict(self='file:///etc/passwd')), 'links.self'),
    (record(checksum='md5:0'), 'checksum'), (b'['*100_000, 'no Zenodo record'),
    (json.dumps(dict(files=json.loads(record())['files']*2)).encode(), 'one name'),
    (json.dumps(dict(files=[{}]*20_000)).encode(), 'files is')])
def test_hostile_records(server, body, says):
    server.files['/r'] = body
    with pytest.raises(InputError, match='no Zenodo record') as e:
        D.zenodo_files(server.base + '/r', [])
    assert says in str(e.value) and '\n' not in str(e.value) and len(str(e.value)) < 400

def endless(h, body):
    h.send_response(200); h.end_headers()
    while h.server.sent < 1 << 30:
        h.wfile.write(b' '*(1 << 16))
        h.server.sent += 1 << 16

def test_record_without_end(server):
    server.record_plan = [endless]
    with pytest.raises(InputError, match='more than 4,194,304 bytes'):
        D.zenodo_files(server.base + '/api/records/1', [])
    assert server.sent < 32 << 20

def drip(h, body):
    h.send_response(200); h.end_headers()
    for i in range(400):
        h.wfile.write(b'x')
        time.sleep(0.05)

def test_bytes_that_drip(case):
    case.server.plan = [drip]*9
    t = time.monotonic()
    case.fails('does not arrive in the time that it has; call again', seconds=0.5)
    assert time.monotonic() - t < 3

def test_round_in_circles(case):
    case.server.plan = [lambda h, body: h.answer(302, Location=case.url)]*99
    case.fails('from one address to the next')
    assert case.waits == [] and len(case.server.asked) <= 31

# Archives

def pack(*members):
    "A zip archive of (name or ZipInfo, bytes), as bytes."
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, data in members: z.writestr(name, data)
    return f.getvalue()

def info(name, **kw):
    m = zipfile.ZipInfo('x')
    m.filename = name            # as it is: the constructor would clean it
    for k, v in kw.items(): setattr(m, k, v)
    return m

def unpack(tmp_path, data, **kw):
    (tmp_path/'in').mkdir(exist_ok=True)
    (tmp_path/'in'/'a.zip').write_bytes(data)
    return D.extract_zip(tmp_path/'in'/'a.zip', tmp_path/'out'/'raw', **kw)

def refused(tmp_path, data, match, **kw):
    "The archive is refused in one line, and nothing is left: not outside, not beside, not inside."
    with pytest.raises(InputError, match=match) as e: unpack(tmp_path, data, **kw)
    assert '\n' not in str(e.value)
    assert [p for p in tmp_path.rglob('*') if p.is_file()] == [tmp_path/'in'/'a.zip']
    assert not (tmp_path/'out'/'raw').exists()
    assert not (tmp_path/'out').exists() or not list((tmp_path/'out').iterdir())

GOOD = [(f'training_set/{i:03}_HC.png', rng.randbytes(900)) for i in range(4)]

def test_good_archive(tmp_path):
    odd = [('training_set/', b''), ('training_set/empty/', b''), ('Maße/Kopf umfang.png', b'x'),
           ('..hidden/a..b.png', b'y'), ('training_set/no', b'')]
    out = unpack(tmp_path, pack(*GOOD, *odd))
    assert held(out) == {k: v for k, v in GOOD + odd if k[-1] != '/'}
    assert (out/'training_set'/'empty').is_dir()
    assert [p.name for p in (tmp_path/'out').iterdir()] == ['raw']
    with pytest.raises(InputError, match='there already'): unpack(tmp_path, pack(*GOOD))

@pytest.mark.parametrize('name', [
    '../a', 'a/../../b', 'a/..', '..', '/etc/a', '//host/a', 'C:/a', 'C:a', 'a:stream', '..\\a',
    '\\\\host\\a', 'a\\b', '.', './a', 'a/./b', 'a//b', '/'
])
@pytest.mark.parametrize('first', [True, False])
def test_names_that_lead_out(tmp_path, name, first):
    bad = (info(name), b'gone')
    refused(tmp_path, pack(bad, *GOOD) if first else pack(*GOOD, bad), 'leads out of the folder')

def test_name_with_nul(tmp_path):
    data = pack(('aXb.png', b'x')).replace(b'aXb.png', b'a\0b.png')
    refused(tmp_path, data, 'leads out of the folder')

def test_empty_name(tmp_path): refused(tmp_path, pack((info(''), b'x')), 'leads out of the folder')

@pytest.mark.parametrize('kind',
                         [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path, kind):
    refused(tmp_path, pack(*GOOD, (info('l', external_attr=(kind | 0o777) << 16), b'/etc')),
            'is a link or a device')

def test_link_and_then_through_it(tmp_path):
    refused(
        tmp_path,
        pack((info('d', external_attr=(stat.S_IFLNK | 0o777) << 16), str(tmp_path).encode()),
             ('d/gone.txt', b'x')), 'link or a device|one name')

def test_encrypted(tmp_path):
    data = bytearray(pack(*GOOD))
    at = data.rfind(b'PK\1\2'); data[at+8] |= 1
    refused(tmp_path, bytes(data), 'is encrypted')

@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods(tmp_path, method):
    refused(tmp_path, pack(*GOOD, (info('a', compress_type=method), b'x'*99)),
            f'is compressed by method {method}')

@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize(
    'names',
    [['a', 'a'], ['a/b.png', 'A/B.PNG'], ['a', 'a/b'], ['a/b', 'a'], ['a/', 'a'], ['a/b/c', 'A/b']])
def test_one_name_twice(tmp_path, names):
    refused(tmp_path, pack(*[(n, b'x') for n in names]), 'two members have one name')

def test_many_files(tmp_path):
    data = pack(*[(f'{i}', b'') for i in range(501)])
    refused(tmp_path, data, '501 members, more than 500', max_files=500)
    assert len(list(unpack(tmp_path, data, max_files=501).iterdir())) == 501

def test_ratio(tmp_path):
    data = pack(('zeros', bytes(10_000_000)))
    refused(tmp_path, data, 'expands to 10000000 bytes, more than')
    assert (unpack(tmp_path, data, max_ratio=2000)/'zeros').stat().st_size == 10_000_000

def test_total(tmp_path):
    refused(tmp_path, pack(*GOOD), 'expands to 3600 bytes, more than 3599', max_bytes=3599)

def test_nested_archive_stays_packed(tmp_path):
    inner = pack(('zeros', bytes(10_000_000)))
    assert (unpack(tmp_path, pack(('inner.zip', inner)))/'inner.zip').read_bytes() == inner

def test_overlapping_members(tmp_path):
    "Many entries that name one and the same kernel: small archive, much output (Fifield, 2019)."
    kernel = bytes(1_000_000)
    packed = zlib.compress(kernel, 9)[2:-4]
    local = struct.pack('<4s5H3I2H', b'PK\3\4', 20, 0, 8, 0, 0, zlib.crc32(kernel), len(packed),
                        len(kernel), 1, 0) + b'0' + packed
    central = b''.join(
        struct.pack('<4s6H3I5H2I', b'PK\1\2', 20, 20, 0, 8, 0, 0, zlib.crc32(kernel), len(packed),
                    len(kernel), 4, 0, 0, 0, 0, 0, 0) + b'%04d'%i for i in range(300))
    data = local + central + struct.pack('<4s4H2IH', b'PK\5\6', 0, 0, 300, 300, len(central),
                                         len(local), 0)
    refused(tmp_path, data, 'expands to 300000000 bytes')

def test_directory_that_lies_about_sizes(tmp_path):
    "Ten megabytes that call themselves ten bytes."
    data = bytearray(pack(('zeros', bytes(10_000_000))))
    for sign, at in ((b'PK\3\4', 22), (b'PK\1\2', 24)):
        struct.pack_into('<I', data, data.rfind(sign) + at, 10)
    refused(tmp_path, bytes(data), 'damaged')

@pytest.mark.parametrize('at,value', [(6, 99), (8, 0x20), (8, 0x800)],
                         ids=['a later version', 'patched data', 'no UTF-8'])
def test_what_zipfile_cannot_read(tmp_path, at, value):
    data = bytearray(pack((info('aXb'), b'x')).replace(b'aXb', b'a\xffb'))
    for sign, shift in ((b'PK\1\2', 0), (b'PK\3\4', 2)):
        struct.pack_into('<H', data, data.rfind(sign) + at - shift, value)
    refused(tmp_path, bytes(data), 'damaged')

def test_member_that_ends_behind_the_archive(tmp_path):
    data = bytearray(pack((info('a', compress_type=zipfile.ZIP_STORED), b'x'*10)))
    for sign, at in ((b'PK\3\4', 18), (b'PK\1\2', 20)):
        struct.pack_into('<II', data, data.rfind(sign) + at, 5000, 5000)
    refused(tmp_path, bytes(data), 'damaged')

def test_bytes_are_counted_as_they_are_written(tmp_path):
    (tmp_path/'a.zip').write_bytes(pack(('zeros', bytes(5_000_000))))
    with zipfile.ZipFile(tmp_path/'a.zip') as z:
        with pytest.raises(InputError, match='more bytes than it says'):
            D.unpack_member(z, z.infolist()[0], tmp_path/'out', 2_500_000)
        assert (tmp_path/'out'/'zeros').stat().st_size <= 2_500_000
        assert D.unpack_member(z, z.infolist()[0], tmp_path/'all', 5_000_001) == 1

def test_damaged_archives(tmp_path):
    "Bits flipped, ends cut at random: refused with nothing left, or unpacked with files missing."
    good, r, n = pack(*GOOD, ('t/text.txt', b'abc'*500)), random.Random(1), 0
    known = dict(GOOD + [('t/text.txt', b'abc'*500)])
    for i in range(240):
        data = bytearray(good[:r.randrange(len(good))] if i % 4 == 0 else good)
        for _ in range(r.choice((1, 1, 3)) if data and i % 4 else 0):
            # half of them in the directory
            at = r.randrange(len(data)) if i % 2 else r.randrange(good.find(b'PK\1\2'), len(data))
            data[at] ^= 1 << r.randrange(8)
        d = tmp_path/str(i)
        d.mkdir()
        try: out = unpack(d, bytes(data))
        except InputError: n += 1; assert not (d/'out').exists() or not list((d/'out').iterdir())
        else: assert all(p.read_bytes() in known.values() for p in out.rglob('*') if p.is_file())
        assert {p.name for p in d.iterdir()} <= {'in', 'out'}
    assert n > 120   # most of them are noticed; the rest hit times, comments and names

# HC18

def hc18():
    "A small HC18, as bytes: the record's files, and what the raw folder should hold."
    train = [(f'training_set/{i:03}_HC{end}.png', random.Random(f'{i}{end}').randbytes(20_000))
             for i in range(8)
             for end in ('', '_Annotation')]
    test = [(f'test_set/{i:03}_HC.png', random.Random(f't{i}').randbytes(20_000)) for i in range(3)]
    tables = {
        'training_set_pixel_size_and_HC.csv': b'filename,pixel size(mm)\n',
        'test_set_pixel_size.csv': b'filename\n'
    }
    return {
        'training_set.zip': pack(('training_set/', b''), *train), 'test_set.zip': pack(*test),
        **tables
    }, dict(train + test) | tables

CONTENT, RAW = hc18()
TRAIN = {k: v for k, v in RAW.items() if k.startswith('training')}

def held(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in Path(folder).rglob('*')
        if p.is_file()
    }
def is_done(out, want=RAW):
    "The raw folder holds what it should and nothing else; beside it are the source and the lock."
    assert held(out) == want
    assert sorted(p.name for p in Path(f'{out}.download').iterdir()) == ['SOURCE.json', 'lock']

@pytest.fixture
def hc(server, tmp_path):
    record_of(server, CONTENT)
    return types.SimpleNamespace(
        server=server, out=tmp_path/'hc18', get=lambda out=tmp_path/'hc18', **kw: D.download_hc18(
            out, base=server.base, **({'desc': None, 'sleep': lambda s: None} | kw)))

def test_hc18(hc):
    assert hc.get() == hc.out
    is_done(hc.out)
    s = read_json(f'{hc.out}.download/SOURCE.json')
    said = {k: (f['size'], f['md5']) for k, f in s['files'].items()}
    assert said == {k: (len(v), md5(v)) for k, v in CONTENT.items()}
    assert s['doi'] == '10.5281/zenodo.1327317' and s['licence'] == 'CC BY 4.0'
    assert s['url'] == hc.server.base + '/api/records/1327317'
    times = lambda: {p: p.stat().st_mtime_ns for p in hc.out.parent.rglob('*') if p.name != 'lock'}
    before, n = times(), len(hc.server.asked)
    hc.get()
    assert len(hc.server.asked) == n and before == times()

def test_hc18_in_the_current_folder(hc, monkeypatch):
    hc.out.mkdir(); monkeypatch.chdir(hc.out)
    hc.get('.')
    is_done(hc.out)

def test_hc18_part_by_part(hc):
    hc.get(parts='train')
    is_done(hc.out, TRAIN)
    n = len(hc.server.asked)
    hc.get()
    is_done(hc.out)
    asked = [a[0] for a in hc.server.asked[n:]]
    assert asked == ['1327317', 'test_set.zip', 'test_set_pixel_size.csv']
    with pytest.raises(InputError, match="no part 'masks'"): hc.get(parts=['masks'])

def test_hc18_missing_entry_is_fetched_again(hc):
    hc.get()
    (hc.out/'test_set_pixel_size.csv').unlink()
    n = len(hc.server.asked)
    hc.get()
    is_done(hc.out)
    assert [a[0] for a in hc.server.asked[n:]] == ['1327317', 'test_set_pixel_size.csv']

def test_hc18_neither_completes_nor_deletes_what_was_changed(hc):
    hc.get()
    (hc.out/'training_set'/'notes.txt').write_text('mine')
    # more than was downloaded is no fault
    hc.get()
    (hc.out/'training_set'/'001_HC.png').unlink()
    before, n = held(hc.out), len(hc.server.asked)
    with pytest.raises(InputError,
                       match='training_set: 16 files .* 16 with 320000 were downloaded'):
        hc.get()
    assert held(hc.out) == before and len(hc.server.asked) == n
    for p in (hc.out/'training_set').iterdir(): p.unlink()
    with pytest.raises(InputError, match='training_set: 0 files'): hc.get()

def test_hc18_leaves_other_folders_alone(hc):
    hc.out.mkdir()
    (hc.out/'thesis.txt').write_text('mine')
    with pytest.raises(InputError, match='not empty, and was not made by this command'): hc.get()
    with pytest.raises(InputError, match='not empty'): hc.get(hc.out/'thesis.txt')
    assert held(hc.out.parent) == {'hc18/thesis.txt': b'mine'} and not hc.server.asked

def test_hc18_never_over_a_folder_of_that_name(hc):
    hc.get(parts='train')
    (hc.out/'test_set').mkdir()
    with pytest.raises(InputError, match='there already, and is not what was downloaded'): hc.get()
    (hc.out/'test_set'/'mine.txt').write_text('mine')
    with pytest.raises(InputError, match='there already, and is not what was downloaded'): hc.get()
    assert held(hc.out/'test_set') == {'mine.txt': b'mine'}

def test_hc18_other_record(hc):
    hc.get()
    record_of(hc.server, CONTENT, '7')
    with pytest.raises(InputError, match='this holds http.*1327317'): hc.get(record='7')

def test_hc18_more_than_anybody_expects(hc):
    with pytest.raises(InputError, match='bytes, more than 1,000'): hc.get(max_bytes=1000)

@pytest.mark.parametrize('change,says', [
    (dict(holds={'../x': [1, 1]}), 'leads out of the folder'), (dict(holds=[]), 'holds is'),
    (dict(holds={'a': [-1, 1]}), 'is -1'), (dict(size='big'), "size is 'big'"), (None, 'files is'),
    (dict(md5=None), 'md5 is None')])
def test_hc18_edited_record_of_the_download(hc, change, says):
    hc.get()
    f = Path(f'{hc.out}.download/SOURCE.json')
    source = json.loads(f.read_text())
    for k in source['files']: source['files'][k].update(change or {})
    if change is None: source['files'] = 3
    f.write_text(json.dumps(source))
    with pytest.raises(InputError, match='SOURCE.json') as e: hc.get()
    assert says in str(e.value) and '\n' not in str(e.value)
    assert held(hc.out) == RAW

def test_hc18_no_room(hc, monkeypatch):
    usage = D.shutil.disk_usage(hc.out.parent)
    monkeypatch.setattr(D.shutil, 'disk_usage', lambda p: usage._replace(free=100_000))
    with pytest.raises(InputError, match='0.1 MB are free on this disk, 0.8 MB are needed'):
        hc.get()
    assert not hc.out.exists() and [a[0] for a in hc.server.asked] == ['1327317']

def test_hc18_bad_archive_of_right_checksum(hc):
    record_of(hc.server, CONTENT | {'test_set.zip': pack(('../../gone.txt', b'x'))})
    with pytest.raises(InputError, match='leads out of the folder'): hc.get()
    # what was good is in place
    assert held(hc.out) == TRAIN and not list(hc.out.parent.rglob('gone.txt'))

def test_hc18_stopped_between_two_entries(hc, monkeypatch):
    record_of(
        hc.server, CONTENT
        | {'test_set.zip': pack(('LICENCE.txt', b'CC BY 4.0'), ('test_set/000_HC.png', b'x'))})
    real = os.replace
    def stops(a, b):
        if Path(b).name == 'test_set': raise OSError('no space left on device')
        real(a, b)
    monkeypatch.setattr(os, 'replace', stops)
    with pytest.raises(OSError, match='no space left'): hc.get()
    assert (hc.out/'LICENCE.txt').exists() and not (hc.out/'test_set').exists()
    monkeypatch.setattr(os, 'replace', real)
    n, entry = len(hc.server.asked), (hc.out/'LICENCE.txt').stat().st_mtime_ns
    hc.get()
    assert (hc.out/'LICENCE.txt').stat().st_mtime_ns == entry
    assert (hc.out/'test_set'/'000_HC.png').read_bytes() == b'x'
    # the archive was still there
    assert [a[0] for a in hc.server.asked[n:]] == ['1327317', 'test_set_pixel_size.csv']

def test_hc18_every_fault_at_once(hc):
    hc.server.record_plan = [status(429, Retry_After='3'), cut(30)]
    hc.server.plan = [cut(50_000), status(503), cut(100_000), whole, status(429), cut(7)]
    hc.get()
    is_done(hc.out)

# Kills

CODE = '''
import os, signal, sys
from fetal_seg import download as D
out, base, kind, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def dies(f, after=False):
    "`f`, whose nth call is killed, before or after it has done its work."
    def g(*args, **kw):
        global n
        n -= 1
        if n == 0 and after: f(*args, **kw)
        if n == 0: os.kill(os.getpid(), signal.SIGKILL)
        return f(*args, **kw)
    return g
if kind == 'rename': os.replace = dies(os.replace)
if kind == 'renamed': os.replace = dies(os.replace, after=True)
if kind == 'member': D.unpack_member = dies(D.unpack_member)
if kind == 'tidy': D.tidy = dies(D.tidy)
D.download_hc18(out, base=base)
print('done')
'''

def process(hc, kind='none', n=0):
    command = [sys.executable, '-c', CODE, str(hc.out), hc.server.base, kind, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=Path(__file__).resolve().parent.parent)

def killed(hc, kind, n):
    "Run and be killed at a step (was there one?): the raw folder holds whole files only."
    p = process(hc, kind, n)
    err = p.communicate(timeout=60)[1]
    assert p.returncode in (0, -signal.SIGKILL), err
    assert not hc.out.exists() or held(hc.out).items() <= RAW.items()
    return p.returncode != 0

STEPS = dict(rename=range(1, 15), renamed=(4, 14), member=(1, 19), tidy=(1, 2))

@pytest.mark.skipif(os.name == 'nt', reason='SIGKILL')
@pytest.mark.parametrize('kind,n', [(kind, n) for kind, ns in STEPS.items() for n in ns])
def test_killed_at_a_step(hc, kind, n):
    assert killed(hc, kind, n)
    hc.get()
    is_done(hc.out)
    # what was fetched is not fetched again
    assert sum(a[0] == 'training_set.zip' for a in hc.server.asked) == 1

@pytest.mark.skipif(os.name == 'nt', reason='SIGKILL')
def test_killed_at_every_other_step(hc):
    "Each run is killed at its third rename, in the last one's state; in the end it is done."
    n = 0
    while killed(hc, 'renamed', 3) and n < 20: n += 1
    is_done(hc.out)
    assert n >= 4

@pytest.mark.skipif(os.name == 'nt', reason='SIGKILL')
def test_killed_while_bytes_arrive(hc):
    "Killed three times in the middle of the archive; what arrived is not asked for again."
    hc.server.pause, total = 0.05, len(CONTENT['training_set.zip'])
    part = Path(f'{hc.out}.download')/'training_set.zip.part'
    for share in (0.2, 0.4, 0.7):
        p = process(hc)
        until = time.time() + 40
        enough = lambda: part.exists() and part.stat().st_size > share*total
        while not enough() and time.time() < until and p.poll() is None: time.sleep(0.01)
        p.kill()
        p.communicate()
        assert p.returncode == -signal.SIGKILL and not hc.out.exists()
        assert share*total < part.stat().st_size < total
        assert part.read_bytes() == CONTENT['training_set.zip'][:part.stat().st_size]
    hc.server.pause = 0
    hc.get()
    is_done(hc.out)
    asked = [
        int(r[6:-1]) if r else 0 for name, r, _ in hc.server.asked if name == 'training_set.zip'
    ]
    assert len(asked) == 4 and asked[0] == 0
    assert all(a > s*total for a, s in zip(asked[1:], (0.2, 0.4, 0.7)))

# Two at a time

def test_two_processes_at_a_time(hc):
    hc.server.pause = 0.05
    a = process(hc)
    until = time.time() + 40
    while hc.server.sent == 0 and time.time() < until: time.sleep(0.01)
    with pytest.raises(InputError, match='another download into this folder is running'): hc.get()
    hc.server.pause = 0
    assert a.communicate(timeout=60)[0].strip() == 'done'
    n = len(hc.server.asked)
    hc.get()
    is_done(hc.out)
    assert len(hc.server.asked) == n == 5

def test_many_threads_at_a_time(hc):
    hc.server.pause, said = 0.002, []
    def go():
        try: said.append(hc.get())
        except InputError as e: said.append(str(e))
    threads = [threading.Thread(target=go) for _ in range(6)]
    for t in threads: t.start()
    for t in threads: t.join(30)
    is_done(hc.out)
    assert hc.out in said and len(said) == 6
    assert all(s == hc.out or 'another download' in s for s in said)
    assert sum(a[0] == 'training_set.zip' for a in hc.server.asked) == 1

# Kaggle, through a kagglehub that is not there

@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    "A false kagglehub: what it does, how often it was asked, and where its folder is."
    k = types.SimpleNamespace(folder=tmp_path/'cache'/'versions'/'2', out=tmp_path/'kaggle',
                              asked=[], error=None)
    (k.folder/'Data').mkdir(parents=True)
    (k.folder/'Data'/'1_HC.png').write_bytes(b'x')
    def dataset_download(handle):
        k.asked.append(handle)
        print('Warning: an outdated kagglehub')
        if k.error: raise k.error
        return str(k.folder)
    module = types.ModuleType('kagglehub')
    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, 'kagglehub', module)
    return k

def test_kaggle(kaggle, capsys):
    assert D.download_kaggle(kaggle.out) == kaggle.out
    assert held(kaggle.out) == {'Data/1_HC.png': b'x'}
    assert kaggle.out.is_symlink() and kaggle.asked == ['orvile/ultrasound-fetus-dataset']
    assert capsys.readouterr().out == ''                                  # --json can be read
    D.download_kaggle(kaggle.out)
    assert len(kaggle.asked) == 1
    s = read_json(f'{kaggle.out}.download/SOURCE.json')
    assert s['doi'] == '10.17632/yrzzw9m6kk' and s['licence'] == 'CC BY 4.0'
    assert s['folder'] == str(kaggle.folder)

def test_kaggle_without_links(kaggle, monkeypatch):
    def no(*a, **kw): raise OSError('a required privilege is not held')
    monkeypatch.setattr(os, 'symlink', no)
    kaggle.out.mkdir()
    D.download_kaggle(kaggle.out)
    assert not kaggle.out.is_symlink() and held(kaggle.out) == {'Data/1_HC.png': b'x'}
    assert sorted(p.name
                  for p in Path(f'{kaggle.out}.download').iterdir()) == ['SOURCE.json', 'lock']

def test_kaggle_into_an_empty_folder(kaggle):
    kaggle.out.mkdir()
    D.download_kaggle(kaggle.out)
    assert kaggle.out.is_symlink() and held(kaggle.out) == {'Data/1_HC.png': b'x'}

def test_kaggle_link_to_nothing(kaggle):
    D.download_kaggle(kaggle.out)
    # an update, the old version removed
    kaggle.folder.rename(kaggle.folder.with_name('3')); kaggle.folder = kaggle.folder.with_name('3')
    D.download_kaggle(kaggle.out)
    assert len(kaggle.asked) == 2 and held(kaggle.out) == {'Data/1_HC.png': b'x'}

def test_kaggle_leaves_other_folders_alone(kaggle):
    kaggle.out.mkdir(); (kaggle.out/'thesis.txt').write_text('mine')
    with pytest.raises(InputError, match='not empty'): D.download_kaggle(kaggle.out)
    assert held(kaggle.out) == {'thesis.txt': b'mine'} and not kaggle.asked
    link = kaggle.out.with_name('link'); link.symlink_to('nowhere')
    with pytest.raises(InputError, match='not empty'): D.download_kaggle(link)

def test_kagglehub_is_not_installed(kaggle, monkeypatch):
    monkeypatch.setitem(sys.modules, 'kagglehub', None)
    with pytest.raises(InputError, match=r"not installed; pip install 'fetal_seg\[kaggle\]'"):
        D.download_kaggle(kaggle.out)

@pytest.fixture(scope='module')
def exceptions():
    "Those of the real kagglehub, imported before a false one takes its place."
    return pytest.importorskip('kagglehub.exceptions')

def get_error(exceptions, what):
    "An error of kagglehub: its own by name, its own about an HTTP status, or one of requests'."
    import requests
    if hasattr(requests, str(what)): return getattr(requests, what)('no route to host')
    if not isinstance(what, int): return getattr(exceptions, what)()
    r = requests.Response()
    r.status_code = what
    return exceptions.KaggleApiHTTPError(
        f'{what} Client Error.\n\nResource not found at URL: https://www.kaggle.com/x\n'
        'Please make sure', response=r)

@pytest.mark.parametrize('what,remedy', [('UnauthenticatedError', 'settings/api'),
                                         ('CredentialError', 'settings/api'), (401, 'settings/api'),
                                         (403, 'settings/api'), (404, 'has moved'),
                                         (500, 'again later'), (429, 'again later'),
                                         ('DataCorruptionError', 'again later'),
                                         ('ConnectionError', 'check the network'),
                                         ('ConnectTimeout', 'check the network'),
                                         ('BackendError', 'by hand')])
def test_kagglehub_errors(exceptions, kaggle, what, remedy):
    if what == 'BackendError': kaggle.error = exceptions.BackendError('no such thing')
    else: kaggle.error = get_error(exceptions, what)
    with pytest.raises(InputError, match=remedy) as e: D.download_kaggle(kaggle.out)
    assert '\n' not in str(e.value) and type(kaggle.error).__name__ in str(e.value)
    assert not kaggle.out.exists()

def test_interrupts_are_not_swallowed(kaggle):
    kaggle.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt): D.download_kaggle(kaggle.out)

def test_import_is_light():
    code = ('import sys, fetal_seg.download; print(*[m for m in '
            '("requests", "kagglehub", "pandas", "PIL", "torch") if m in sys.modules])')
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and r.stdout.strip() == '', r.stdout + r.stderr
