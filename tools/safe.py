"""Nothing that the library reads is executed: no pickle, no eval, no shell.

    python tools/safe.py [FILE ...]

Walks the syntax trees of the files (fetal_seg/*.py where none is named), whatever names they import
things by, and prints FILE:LINE and what was found. Where no file is named, bandit looks at the
library too, as tools/bandit.yaml says. Exit status: 0 nothing found, 1 something, 2 no file there.
"""
import ast, shutil, subprocess, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
# modules that turn bytes into programs, or keep objects by those that do
modules = {'pickle', '_pickle', 'cPickle', 'pickletools', 'marshal', 'shelve', 'dill',
           'cloudpickle', 'joblib', 'jsonpickle', 'code', 'codeop', 'runpy', 'imp'}
builtins = {'eval', 'exec', 'compile', '__import__'}
# functions by their whole name; whatever begins with one that ends in a dot
functions = {'torch.load', 'torch.jit.load', 'torch.hub.', 'torch.package.', 'torch.serialization.',
             'pandas.eval', 'yaml.load', 'yaml.load_all',
             'os.system', 'os.popen', 'os.exec', 'os.spawn', 'os.posix_spawn', 'pty.spawn',
             'subprocess.getoutput', 'subprocess.getstatusoutput',
             'asyncio.create_subprocess_shell'}
# and by their last name, whatever they are called on
anywhere = {'load_learner', 'load_pickle', 'save_pickle', 'read_pickle', 'to_pickle', 'unsafe_load',
            'unsafe_load_all', 'full_load', 'full_load_all'}

# what is found and is right: (module, what) and why
exceptions = {
    ('networks', 'import_module of a name made up'):
        'find_factory imports what its list names, or the caller allows; tests/test_networks.py'}

def imported(tree):
    "What each imported name stands for: {name in the module: its whole name}."
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.asname: names[a.asname] = a.name
                else: names[a.name.split('.')[0]] = a.name.split('.')[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for a in node.names: names[a.asname or a.name] = f'{node.module}.{a.name}'
    return names

def whole_name(node, names):
    "The dotted name of an expression, as imported; None where it has none."
    if isinstance(node, ast.Name): return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        base = whole_name(node.value, names)
        return base and f'{base}.{node.attr}'

def forbidden(name):
    "Is a function of this whole name one that runs what it is given?"
    if name.removeprefix('builtins.') in builtins: return True
    if name.split('.')[-1] in anywhere: return True
    return any(name == f or name.startswith(f) and (f[-1] == '.' or f in ('os.exec', 'os.spawn'))
               for f in functions)

def option(call, name): return next((k.value for k in call.keywords if k.arg == name), None)

def is_false(value): return isinstance(value, ast.Constant) and not value.value

def faults_of_call(call, names):
    "What is wrong with how a function is called."
    name = whole_name(call.func, names) or ''
    allow = option(call, 'allow_pickle') or (call.args[2:] if name == 'numpy.load' else None)
    if allow and not is_false(allow if isinstance(allow, ast.AST) else allow[0]):
        yield f'{name}(allow_pickle=...)'
    shell = option(call, 'shell')
    if shell is not None and not is_false(shell): yield f'{name}(shell=...)'
    if isinstance(call.func, ast.Attribute) and call.func.attr == 'eval' and call.args:
        yield f'{name or "a method eval"}(...)'
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if name == 'getattr' and any(t in builtins | anywhere or t in ('system', 'loads')
                                 for t in texts): yield f'getattr(..., {texts[0]!r})'
    if name == 'importlib.import_module' and not texts: yield 'import_module of a name made up'
    if name == 'importlib.import_module' and any(t.split('.')[0] in modules for t in texts):
        yield f'import of {texts[0]}'

def faults(text, where='module'):
    "(line, what) of all that could run what it reads."
    tree = ast.parse(text, where)
    names, found = imported(tree), set()
    for node in ast.walk(tree):
        line = getattr(node, 'lineno', 0)
        if isinstance(node, ast.Import):
            found |= {(line, f'import of {a.name}') for a in node.names
                      if a.name.split('.')[0] in modules}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            full = [f'{node.module}.{a.name}' for a in node.names]
            found |= {(line, f'import of {f}') for f in full
                      if f.split('.')[0] in modules or forbidden(f)}
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = whole_name(node, names)
            if name and forbidden(name): found.add((line, name))
        elif isinstance(node, ast.Call):
            found |= {(line, what) for what in faults_of_call(node, names)}
    return sorted(found)

def bandit():
    "The lines of bandit's findings; it reads which rules are left out, and why, in bandit.yaml."
    tool = shutil.which('bandit', path=str(Path(sys.executable).parent)) or shutil.which('bandit')
    if tool is None: return ['bandit is not installed: run `make .venv`']
    r = subprocess.run([tool, '-q', '-r', 'fetal_seg', '-c', 'tools/bandit.yaml', '-f', 'custom',
                        '--msg-template', '{relpath}:{line}: bandit {test_id}: {msg}'], cwd=top,
                       capture_output=True, text=True)
    if r.returncode not in (0, 1): return [f'bandit: exit status {r.returncode}: {r.stderr[-500:]}']
    return r.stdout.splitlines()

def main(args):
    files = [Path(a) for a in args] or sorted((top/'fetal_seg').glob('**/*.py'))
    if not files or not all(f.is_file() for f in files):
        print('no such file:', *[f for f in files if not f.is_file()], file=sys.stderr)
        return 2
    lines = [f'{f}:{n}: {what}' for f in files
             for n,what in faults(f.read_text(encoding='utf-8'), str(f))
             if args or (f.stem, what) not in exceptions]
    if not args: lines += bandit()
    print('\n'.join(lines) or f'{len(files)} files: nothing is executed')
    return bool(lines)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
