"""The commands and their surroundings: consoles that know few letters, readers that go away, disks
that are full, names that are too long, signals."""
import errno, io, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest
from fetal_seg import core
from fetal_seg.core import (
    HOSTILE, Console, InputError, NotFoundError, WriteError, atomic_path, printable, to_json,
    write_json, write_text)

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='POSIX pipes, devices and signals')
bin = Path(sys.executable).parent
NAMES = ['a\x1b[31m\u202eb\x07', 'é\rx', 'q\udc9bz', 'n\nl', '\u2066🙂\x9b2J']

def command(*args, **kw):
    "A process of one of our commands; bytes as they come."
    return subprocess.Popen([str(bin/args[0]), *map(str, args[1:])], stdout=kw.pop('stdout', -1),
                            stderr=kw.pop('stderr', -1), **kw)

def run(*args, **kw):
    p = command(*args, **kw)
    out, err = p.communicate(timeout=120)
    return p.returncode, out, err

def hostile(data, encoding='utf-8'): return HOSTILE.findall(data.decode(encoding).replace('\n', ''))

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Raw pictures, what `prepare` made of them, and pictures whose names steer a terminal."
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('world')
    write_phantoms(d/'raw', n=30, shape=(96, 144))
    prepare(d/'raw', d/'prepared', size=(96, 144), fractions=(0.6, 0.2, 0.2))
    (d/'pictures').mkdir()
    for f, n in zip(sorted((d/'raw').rglob('*_HC.png')), NAMES):
        shutil.copy(f, d/'pictures'/f'{n}.png')
    return d

# Any text

@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'latin-1', 'utf-8'])
def test_any_text_on_any_console(encoding):
    for c in map(chr, [*range(0x3000), *range(0xd800, 0xe100), 0xfeff, 0x1f642, 0x10ffff]):
        raw = io.BytesIO()
        console = Console(io.TextIOWrapper(raw, encoding=encoding, newline=''))
        print(json.dumps('a' + c, ensure_ascii=False), file=console, flush=True)
        shown = raw.getvalue().decode(encoding)
        assert json.loads(shown) == 'a' + c and not HOSTILE.search(shown)

def test_ordinary_text_is_as_it_was():
    text = 'Größe 12×34 µm\tzwei\n日本語 🙂 ‘’ \\x1b'
    assert printable(text) == text

def test_bars_move_and_names_do_not():
    out = io.StringIO()
    c = Console(out, moves=True)
    for t in ('\r 50%', '\x1b[A', 'x\r', '\r\x1b[2J'): c.write(t)
    assert out.getvalue() == '\r 50%\x1b[Ax\\u000d\r\\u001b[2J'

@pytest.mark.parametrize('kind', [InputError, NotFoundError, WriteError])
def test_errors_can_be_shown(kind):
    e = kind(f'raw/{NAMES[0]}', 'what \x1b]0;title\x07', 'a remedy')
    assert not HOSTILE.search(str(e)) and e.path == f'raw/{NAMES[0]}'

@pytest.mark.parametrize('how', [
    dict(PYTHONIOENCODING='ascii'), dict(PYTHONIOENCODING='cp1252'), dict(LC_ALL='C')])
def test_hard_names_and_poor_consoles(world, tmp_path, how):
    pictures, env = [world/'pictures'/f'{n}.png' for n in NAMES], dict(os.environ, **how)
    rc, out, err = run('fetal_seg_predict', *pictures, '--out', tmp_path/'a', '--json', env=env)
    assert rc == 0, err
    encoding = 'cp1252' if 'cp1252' in how.values() else 'utf-8'
    found = json.loads(out.decode(encoding))['predictions']
    assert [Path(p['file']).stem for p in found] == NAMES
    assert not hostile(out, encoding) and not hostile(err, encoding)
    (tmp_path/'bad').mkdir()
    for n in NAMES: (tmp_path/'bad'/f'{n}.png').write_bytes(b'no picture')
    rc, out, err = run('fetal_seg_predict', tmp_path/'bad', '--out', tmp_path/'b', env=env)
    assert rc == 2 and b'Traceback' not in err and err.count(b'\n') == 1
    assert not hostile(err, encoding)

def test_wrong_options_are_shown_safely():
    rc, out, err = run('fetal_seg_verify', 'x', '--\x1b[2J\u202e')
    assert rc == 2 and not hostile(err) and b'\\u001b[2J' in err

def test_a_verification_prints_safely(world, monkeypatch, capsys):
    from fetal_seg.verify import verify
    v = verify(world/'prepared')
    v.findings = v.findings.assign(case='x\x1b[2J\n\u202e')
    raw = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', raw)
    v.print(); raw.flush()
    assert not hostile(raw.buffer.getvalue()) and not HOSTILE.search(str(v).replace('\n', ''))

def test_halves_of_pairs_in_files(tmp_path):
    assert json.loads(to_json(NAMES)) == NAMES
    assert json.loads(write_json(tmp_path/'a.json', NAMES).read_text('utf-8')) == NAMES
    assert write_text(tmp_path/'a', 'q\udc9b').read_text('utf-8') == r'q\udc9b'

# Readers that go away, and streams that are closed

def shell(line, **kw):
    r = subprocess.run(['bash', '-c', line], capture_output=True, timeout=120, **kw,
                       env=dict(os.environ, PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}'))
    return r.returncode, r.stdout.decode(), r.stderr.decode()

@pytest.mark.parametrize('line', [
    'fetal_seg_verify --help', 'fetal_seg_verify prepared --out {tmp}/v.json',
    'fetal_seg_predict pictures --json --out {tmp}/p'])
def test_a_reader_that_goes_away(world, tmp_path, line):
    "The files are whole, nothing is said, and the status is that of SIGPIPE."
    line = line.format(tmp=tmp_path)
    rc, out, err = shell(f'{line} | true; exit ${{PIPESTATUS[0]}}', cwd=world)
    assert (rc, out, err) in [(141, '', ''), (1, '', '')]   # 1: verify has found something
    if line.endswith('v.json'): assert 'findings' in json.loads((tmp_path/'v.json').read_text())
    if line.endswith('/p'): assert len(list((tmp_path/'p').glob('*_mask.png'))) == len(NAMES)

def test_problems_keep_their_status(world, tmp_path):
    (tmp_path/'bad.png').write_bytes(b'no picture')
    line = f'fetal_seg_predict pictures {tmp_path}/bad.png --out {tmp_path}/p 2>&1 | true'
    assert shell(line + '; exit ${PIPESTATUS[0]}', cwd=world) == (1, '', '')

@pytest.mark.parametrize('to,why', [('>&-', 'it is closed'), ('> /dev/full', 'No space left')])
def test_standard_output_that_takes_nothing(world, to, why):
    rc, out, err = shell(f'fetal_seg_verify prepared {to}', cwd=world)
    assert rc == 2 and err.count('\n') == 1 and 'standard output' in err and why in err

@pytest.mark.parametrize('to', ['2>&-', '2> /dev/full'])
def test_standard_error_that_takes_nothing(world, tmp_path, to):
    rc, out, err = shell(f'fetal_seg_predict pictures --json --out {tmp_path}/p {to}', cwd=world)
    assert (rc, err) == (0, '') and len(json.loads(out)['predictions']) == len(NAMES)

# Signals

@pytest.mark.parametrize('number,status', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command(world, tmp_path, number, status):
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    p = command('fetal_seg_train', world/'prepared', tmp_path/'run', '--epochs', 500, '--size', 32,
                48, '--width', 4, preexec_fn=hear)
    for line in p.stderr:
        if b'epoch 2/' in line: break
    p.send_signal(number)
    err = p.stderr.read().decode()
    assert p.wait(60) == status and 'Traceback' not in err
    assert err.endswith('interrupted; run the same command again to go on\n')
    assert not [f for f in (tmp_path/'run').iterdir() if f.name.startswith('.')
                and f.suffix in ('.csv', '.json', '.safetensors', '.pth')]

# Full disks

def full(*args, **kw): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    f = write_text(tmp_path/'table.csv', 'old')
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(WriteError, match='table.csv: No space left on device: it needs 5 bytes'):
        write_text(f, 'newer')
    assert isinstance(WriteError('a', 'b', 'c'), OSError)
    assert [p.name for p in tmp_path.iterdir()] == ['table.csv'] and f.read_text() == 'old'

@pytest.mark.parametrize('code,says', [
    (errno.EDQUOT, 'needs more than the 3 bytes'), (errno.EFBIG, 'needs more than the 3 bytes')])
def test_quotas(tmp_path, code, says):
    with pytest.raises(WriteError, match=says):
        with atomic_path(tmp_path/'a.png') as tmp:
            tmp.write_bytes(b'abc')
            raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())

def test_errors_of_the_system_name_the_file(tmp_path):
    def named(f):
        with pytest.raises(OSError) as e: write_text(f, 'x')
        return str(e.value.filename)
    assert named(tmp_path/('n'*300 + '.csv')) == str(tmp_path/('n'*300 + '.csv'))
    (tmp_path/'file').write_text('')
    assert named(tmp_path/'file'/'deep'/'a.csv').startswith(str(tmp_path/'file'))
    (tmp_path/'folder.csv').mkdir()
    assert named(tmp_path/'folder.csv') == str(tmp_path/'folder.csv')

def test_a_block_in_a_block(tmp_path):
    with pytest.raises(WriteError) as e:
        with atomic_path(tmp_path/'a.onnx') as tmp, atomic_path(tmp): full()
    assert e.value.path == str(tmp_path/'a.onnx') and not list(tmp_path.iterdir())

def limited(size):
    import resource
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

@pytest.mark.parametrize('args,left', [
    ('fetal_seg_verify prepared --out {}/v.json', 'v.json: File too large: it needs '),
    ('fetal_seg_verify prepared --out {}/v.html', 'v.html: File too large: it needs '),
    ('fetal_seg_prepare raw {}/p --size 96 144', 'File too large: it needs '),
    ('fetal_seg_predict pictures --out {}/out', 'File too large: it needs ')])
def test_files_that_may_not_grow(world, tmp_path, args, left):
    rc, out, err = run(*args.format(tmp_path).split(), cwd=world, preexec_fn=limited(1000))
    assert rc == 2 and b'Traceback' not in err and left in err.decode(), err
    assert err.count(b'\n') == 1 and not [p for p in tmp_path.iterdir() if p.is_file()]

@pytest.fixture
def small(tmp_path):
    "Mounts a disk of a few kilobytes, where that is permitted."
    folder = tmp_path/'small'
    folder.mkdir()
    def mount(size):
        r = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', folder],
                           capture_output=True)
        if r.returncode: pytest.skip('no disk can be mounted here')
        return folder
    if shutil.which('mount') is None: pytest.skip('no disk can be mounted here')
    yield mount
    subprocess.run(['umount', folder], capture_output=True)

@pytest.mark.parametrize('args,size', [
    ('fetal_seg_prepare raw {}/p --size 96 144', '400k'),
    ('fetal_seg_predict pictures --out {}/out', '64k'),
    ('fetal_seg_verify prepared --out {}/v.html', '32k'),
    ('fetal_seg_train prepared {}/run --epochs 1 --size 32 48 --width 4', '64k')])
def test_a_disk_that_is_full(world, small, args, size):
    d = small(size)
    rc, out, err = run(*args.format(d).split(), cwd=world)
    last = err.decode().strip().splitlines()[-1]
    assert rc == 2 and b'Traceback' not in err, err
    assert 'No space left on device: it needs' in last and 'room' in last and str(d) in last
    assert not [p for p in d.glob('*') if p.is_file()]
