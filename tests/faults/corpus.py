"""Hostile inputs, all of them: a table by group of what became of each (`make faults`).

    python tests/faults/corpus.py [--every N --offset K] [--group G] [--only TEXT] [--list] [--keep]

Each input is a folder of its own, read in a process of its own by a public function or a command.
What becomes of it:

  clean        one line that names the file (for a command: exit status 2), or a finding of verify
  harmless     read, with exactly the result of the untouched file
  undetectable read with another result, where nothing in the file can tell (no checksum)
  unclear      refused without the name of the file, or refused although it is harmless
  traceback, hang, over 1 GiB
  loss         a file outside of the results, or beside a refused input, was changed or removed
  silent       read with another result
  executed     code out of the file ran

Exit status 0 if there is none of the last six, 1 otherwise.
"""
import os
for k in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ.setdefault(k, '1')
os.environ['MPLBACKEND'] = 'agg'
import argparse, collections, gc, json, re, resource, select, shutil, signal, subprocess, sys
import tempfile, time, traceback

from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parent))
import inputs, world
from targets import TARGETS, Refused

SECONDS, GIB = 10, 1 << 30
GOOD = ('clean', 'harmless', 'undetectable', 'unclear')
BAD = ('traceback', 'hang', 'over 1 GiB', 'loss', 'silent', 'executed')

def warm():
    "Import what the targets need, once, before the processes are forked."
    import warnings
    warnings.filterwarnings('ignore', category=FutureWarning)   # of libraries, not of ours
    import PIL.Image, pydicom, onnxruntime, pandas, torch   # noqa
    from fastai.vision.all import Learner   # noqa
    # noqa
    from fetal_seg import cli, calibration, card, eval, explore, pipeline, preprocess, train
    PIL.Image.init()
    try: import SimpleITK   # noqa
    except ImportError: pass
    gc.collect()
    gc.freeze()   # so that forked processes share it

def kept(folder):
    "Every file of a folder, and what it holds; pipes, links and locks by their kind."
    out = {}
    for at, folders, files in os.walk(folder):
        for n in [*files, *(f for f in folders if os.path.islink(os.path.join(at, f)))]:
            p = os.path.join(at, n)
            name = os.path.relpath(p, folder)
            if n.endswith('.lock') or n == 'lock': continue
            if os.path.islink(p): out[name] = 'link ' + os.readlink(p)
            elif os.path.isfile(p):
                with open(p, 'rb') as f: out[name] = hash(f.read())
            else: out[name] = 'no file'
    return out

def lost(before, after, writes, refused):
    "Names of the files that should be as they were, and are not."
    def ours(n): return any(n == w or n.startswith(w + '/') for w in writes)
    bad = [n for n, v in before.items() if after.get(n) != v and (refused or not ours(n))]
    new = [n for n in after if n not in before and not ours(n)]
    return sorted(bad + new)

def fill(d, target, base):
    "The folder of an input: what its target needs, and files that are nobody's business."
    for part in target.parts:
        src = base/part
        if src.is_dir(): shutil.copytree(src, d/part)
        elif not (d/part).exists():
            (d/part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(src, d/part)
    (d/'home').mkdir(exist_ok=True)
    for n in ('x.txt', 'secret', 'secret.raw'): (d/'home'/n).write_bytes(bytes(range(256))*40)
    (d/'home'/'secret.png').write_bytes(inputs.pillow('PNG', inputs.grey()[::-1]))

def peak():
    "The most memory of this process so far, bytes."
    with open('/proc/self/status') as f:
        return next(int(l.split()[1]) for l in f if l.startswith('VmHWM'))*1024

def act(i, d, send):
    "In the process of one input: do the damage, read, and say what came of it."
    gc.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2): os.dup2(null, fd)
    target = TARGETS[i.target]
    try: i.damage(d) if i.damage else None
    except OSError as e: return send(dict(status='skipped', text=f'cannot be made here: {e}'))
    out = dict(before=kept(d))
    try:
        with open('/proc/self/clear_refs', 'w') as f: f.write('5')
    except OSError: pass
    base = peak()
    space = resource.getrlimit(resource.RLIMIT_AS)
    with open('/proc/self/statm') as f: used = int(f.read().split()[0])*resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4*GIB, space[1]))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + int(time.process_time()) + 1,)*2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    from fetal_seg.core import InputError
    try: out.update(status='read', result=json.loads(json.dumps(target.run(d, i.files))))
    except (Refused, InputError) as e: out.update(status='refused', text=str(e))
    except OSError as e:
        # the commands make one line of these; so does `Refused`, where a command was called
        name = str(e.filename or '')
        kind = 'refused' if name else 'traceback'
        out.update(status=kind, text=f'{type(e).__name__}: {e}'[:300])
    except MemoryError as e: out.update(status='over', text='MemoryError')
    except BaseException as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        where = f'{Path(last.filename).name}:{last.lineno}'
        out.update(status='traceback', text=f'{type(e).__name__}: {str(e)[:200]} ({where})')
    out['more'] = peak() - base
    send(out)

class Job:
    "A process that reads one input."
    def __init__(self, i, base, parent):
        self.i, self.d = i, Path(tempfile.mkdtemp(dir=parent))
        fill(self.d, TARGETS[i.target], base)
        self.r, w = os.pipe()
        self.t, self.data = time.monotonic(), b''
        self.pid = os.fork()
        if self.pid: return os.close(w)
        try:
            os.close(self.r)
            os.setsid()
            def send(o):
                b = json.dumps(o).encode()
                while b: b = b[os.write(w, b):]
            act(i, self.d, send)
        finally: os._exit(0)

    def seconds(self):
        "Of the processor."
        try:
            with open(f'/proc/{self.pid}/stat') as f: s = f.read().rsplit(')', 1)[1].split()
        except OSError: return 0.
        return (int(s[11]) + int(s[12]))/os.sysconf('SC_CLK_TCK')

    def poll(self):
        "What came of it, or None while it runs."
        while select.select([self.r], [], [], 0)[0]:
            b = os.read(self.r, 1 << 16)
            self.data += b
            if not b: return self.end()
        wall = time.monotonic() - self.t
        if wall > 6*SECONDS or wall > SECONDS and self.seconds() < 1:
            os.killpg(self.pid, signal.SIGKILL)
            return self.end('hang')
        return None

    def end(self, why=''):
        os.close(self.r)
        _, status = os.waitpid(self.pid, 0)
        try: out = json.loads(self.data)
        except ValueError:
            sig = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            if sig in (signal.SIGXCPU, signal.SIGKILL) or why: out = dict(status='hang')
            else: out = dict(status='traceback', text=f'the process died (signal {sig})')
        if self.i.damage is None or out['status'] == 'skipped': out['lost'] = []
        else: out['lost'] = self.losses(out)
        out['executed'] = (self.d/'home'/'executed').exists()
        out['wall'] = time.monotonic() - self.t
        return out

    def losses(self, out):
        before = out.get('before')
        if before is None: return []   # killed: what was half written is another test's
        home = {n: v for n, v in before.items() if n.startswith('home/')}
        after = kept(self.d)
        # the hash of bytes differs between processes only if PYTHONHASHSEED does: it is inherited
        t = TARGETS[self.i.target]
        return lost(before, after, t.writes, out['status'] == 'refused' and not t.goes_on) \
            or lost(home, {n: v for n, v in after.items() if n.startswith('home/')}, (), True)

def named(i, text, d):
    "Does a line name one of the files, or the folder that it lies in?"
    parents = [(d/n).parent for n in i.files if '\0' not in n]
    if any(f'{p}:' in text or p != d and d in p.parents and str(p) in text for p in parents):
        return True
    letters = lambda t: re.sub(r'[\W_]+|x[0-9a-f]{2}|u[0-9a-f]{4}', '', t)
    return any(Path(n).name in text or n in text or letters(Path(n).name) in letters(text)
               for n in i.files)

def judge(i, out, goods, d):
    "The class of an outcome, and a note."
    status, text = out['status'], out.get('text', '')
    if out.get('executed'): return 'executed', text
    if status == 'skipped': return 'clean', text
    if status == 'hang': return 'hang', f'{out["wall"]:.0f} s'
    if status == 'over' or out.get('more', 0) > GIB:
        return 'over 1 GiB', f'{out.get("more", 0)/GIB:.1f} GiB; {status} {text}'
    if status == 'traceback': return 'traceback', text
    if [n for n in out['lost'] if n != 'home/executed']:
        return 'loss', f'{out["lost"][:3]}; {status} {text}'
    if status == 'refused':
        if i.harmless: return 'unclear', f'refused, though harmless: {text}'
        lines = len(text.splitlines())
        if lines > 1: return 'unclear', f'{lines} lines: {text}'
        return ('clean' if named(i, text, d) else 'unclear'), text
    if i.oracle == '-': return 'harmless', ''
    good = goods.get(i.oracle or f'={i.target}')
    same = good is not None and out['result'] == good
    if same: return ('silent', 'nothing was found') if i.must_find else ('harmless', '')
    if i.target == 'verify' and good and out['result']['rc'] == 1 and (
            set(out['result']['findings']) - set(good['findings'])): return 'clean', 'found'
    if i.target in ('predict_picture', 'predict') and any(
            r['problem'] for r in out['result'][0]): return 'clean', 'a row with its problem'
    return ('undetectable' if i.free else 'silent'), difference(good, out['result'])

def difference(a, b):
    a, b = json.dumps(a), json.dumps(b)
    k = next((j for j, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f'{a[max(0, k-30):k+30]!r} became {b[max(0, k-30):k+30]!r}'

def run_all(todo, base, parent, jobs=2, done=lambda i, out, d: None):
    "Run the inputs, some at a time."
    todo, running = list(todo), []
    while todo or running:
        while todo and len(running) < jobs: running.append(Job(todo.pop(0), base, parent))
        for j in list(running):
            out = j.poll()
            if out is None: continue
            running.remove(j)
            done(j.i, out, j.d)
        time.sleep(0.002)

def good_results(base, parent, chosen, all_inputs, jobs):
    "What each target says to untouched input."
    need = {i.oracle or f'={i.target}' for i in chosen} - {'-', 'none'}
    firsts = {i.oracle: i for i in all_inputs if i.oracle and i.harmless and 'untouched' in i.name}
    ask = {n: firsts[n] if n in firsts else inputs.Input(n, 'good', n[1:], (), None) for n in need}
    goods, of = {}, {i.name: n for n, i in ask.items()}
    def done(i, out, d):
        if out['status'] != 'read':
            print(f'the untouched input of {of[i.name]} is not read: {out["status"]} '
                  f'{out.get("text", "")}', flush=True)
        goods[of[i.name]] = out.get('result')
        shutil.rmtree(d, ignore_errors=True)
    run_all(ask.values(), base, parent, jobs, done)
    return goods

ARGUMENTS = dict(
    evaluate=lambda d, f: ['eval', '--run', d/'run', '--prepared', d/'prepared'],
    verify=lambda d, f: ['verify', d/'prepared', '--workers', '0'],
    predict=lambda d, f: ['predict', d/'prepared'/'test'/'images', '--weights', d/'run', '--out',
                          d/'out'],
    predict_picture=lambda d, f: ['predict', d/f[0], '--weights', d/'run', '--out', d/'out'],
    exams=lambda d, f: ['prepare', d/'raw', d/'out', '--exams', d/f[0], '--workers', '0'],
    split=lambda d, f: ['prepare', d/'raw', d/'out', '--split', d/f[0], '--workers', '0'],
    coco=lambda d, f: ['prepare', d/'coco', d/'out', '--workers', '0'],
    train_new=lambda d, f: ['train', d/'prepared', d/'new', '--epochs', '1', '--width', '4',
                            '--size', '32', '48'],
    shown=lambda d, f: ['verify', d/'raw', '--workers', '0'])

def run_commands(every, base, parent, n, say):
    "A sample through the real commands, on a console that knows ASCII only; how many went wrong."
    some = [i for i in every if i.target in ARGUMENTS]
    some = inputs.gen('commands').sample(some, min(n, len(some)))
    env = dict(os.environ, PYTHONIOENCODING='ascii:strict')
    bad = 0
    for i in some:
        d = Path(tempfile.mkdtemp(dir=parent))
        fill(d, TARGETS[i.target], base)
        home = kept(d/'home')
        # in a process of its own, for damage may set limits of the process: the command inherits
        pid = os.fork()
        if not pid: os._exit(command(i, d, env))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        kind = FAULTS.get(code) or ('loss' if kept(d/'home') != home and 'link out' not in i.name
                                    else '')
        if kind: say(f'{kind}: {i.name}, by the command {ARGUMENTS[i.target](d, i.files)[0]}')
        bad += bool(kind)
        shutil.rmtree(d, ignore_errors=True)
    say(f'{len(some)} inputs through the commands: {bad} went wrong')
    return bad

FAULTS = {3: 'hang', 4: 'traceback', 5: 'unclear', 6: 'no status of ours'}

def command(i, d, env):
    "0, or a key of `FAULTS`."
    i.damage(d)
    resource.setrlimit(resource.RLIMIT_AS, (16*GIB, 16*GIB))   # what is endless ends
    name, *argv = map(str, ARGUMENTS[i.target](d, i.files))
    call = [str(Path(sys.executable).parent/f'fetal_seg_{name}'), *argv]
    try:
        r = subprocess.run(call, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired: return 3
    if b'Traceback' in r.stderr: return 4
    if r.returncode not in (0, 1, 2): return 6
    last = (r.stderr.strip().splitlines() or [b''])[-1]
    return 5 if r.returncode == 2 and not last.startswith(b'fetal_seg_') else 0

def table(found, inputs_of):
    "The table by group."
    heads = ['inputs', *GOOD, *BAD]
    lines = [f'{"group":<14}' + ''.join(f'{h:>14}' for h in heads)]
    groups = [*sorted(inputs_of), 'all']
    for g in groups:
        c = sum((v for k, v in found.items() if g in (k, 'all')), collections.Counter())
        n = sum(c.values())
        lines.append(f'{g:<14}' + ''.join(f'{n if h == "inputs" else c[h]:>14}' for h in heads))
    return '\n'.join(lines)

def options(args):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add('--every', type=int, default=1, help='only one input in N')
    add('--offset', type=int, default=0, help='which of them, 0 to N-1')
    add('--group', help='only the group that begins so')
    add('--only', help='only inputs whose name has this text')
    add('--list', action='store_true', help='print the names, and run nothing')
    add('--keep', metavar='DIR', help='keep the folders of bad inputs there')
    add('--world', metavar='DIR', help='made before by world.py; made anew where not given')
    add('--jobs', type=int, default=2, help='processes (default: %(default)s)')
    add('--json', metavar='FILE', help='write what became of each input')
    add('--commands', type=int, metavar='N', help='inputs that the real commands read as well, in '
        'processes (default: 30 where all inputs are read, else none)')
    return p.parse_args(args)

def choose(a, every):
    some = [i for n, i in enumerate(every) if n % a.every == a.offset]
    if a.group: some = [i for i in some if i.group.startswith(a.group)]
    return [i for i in some if a.only in i.name] if a.only else some

def get_world(given, parent):
    if given: return Path(given)
    made = parent/'world'
    r = subprocess.run([sys.executable, str(Path(__file__).with_name('world.py')), str(made)],
                       capture_output=True, text=True)
    if r.returncode: raise SystemExit('the world cannot be made:\n' + r.stderr[-3000:])
    return made

def main(args=None, say=print):
    a = options(args)
    found, note, t = collections.defaultdict(collections.Counter), [], time.time()
    with tempfile.TemporaryDirectory(prefix='faults-') as tmp:
        base = get_world(a.world, Path(tmp))
        world.PLACE = base
        every = inputs.all_inputs(base)
        chosen = choose(a, every)
        if a.list: return say('\n'.join(f'{i.name}  ({i.target})' for i in chosen)) or 0
        warm()
        goods = good_results(base, tmp, chosen, every, a.jobs)
        def done(i, out, d):
            kind, text = judge(i, out, goods, d)
            found[i.group][kind] += 1
            note.append(dict(name=i.name, target=i.target, kind=kind, text=text,
                             seconds=round(out['wall'], 2), more=out.get('more')))
            if kind in BAD or kind == 'unclear':
                say(f'{kind}: {i.name}: {text[:260]}', flush=True) if say is print else None
                if a.keep:
                    os.makedirs(a.keep, exist_ok=True)
                    shutil.move(d, Path(a.keep)/i.name.replace('/', ' '))
            shutil.rmtree(d, ignore_errors=True)
        run_all(chosen, base, tmp, a.jobs, done)
        n = a.commands if a.commands is not None else 30*(len(chosen) == len(every))
        wrong = run_commands(every, base, tmp, n, say) if n else 0
    if a.json: Path(a.json).write_text(json.dumps(note, indent=1))
    bad = sum(c[k] for c in found.values() for k in BAD)
    say(table(found, {i.group for i in chosen}))
    say(f'{len(chosen)} inputs in {time.time()-t:.0f} s')
    return int(bad + wrong > 0)

if __name__ == '__main__':
    code = main()
    sys.stdout.flush()
    os._exit(code)   # without what libraries say of themselves when they are taken down
