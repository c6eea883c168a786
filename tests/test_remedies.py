"A remedy names only options that the command at hand has: read off the source, by who calls whom."
import ast, re
from pathlib import Path
import pytest
import fetal_seg
from fetal_seg import cli

TOP = Path(fetal_seg.__file__).parent
OPTION, COMMAND = re.compile(r'(?<![\w-])--[a-z][a-z-]*'), re.compile(r'fetal_seg_[a-z]+')
ERRORS = ('InputError', 'NotFoundError', '_left')

def commands():
    "Console command -> the function of `cli`."
    names = {n: f for n,f in vars(cli).items()
             if callable(f) and (f.__doc__ or '').startswith('fetal_seg_')}
    return {f.__doc__.split(':')[0]: n for n,f in names.items()}

def options(function, monkeypatch):
    "What a command takes, from its own parser."
    class Known(Exception): pass
    found = []
    def get(*a, **k):
        p = real(*a, **k)

        def stop(*_, **__):
            found.append({o for act in p._actions for o in act.option_strings})
            raise Known
        p.parse_args = p.parse_intermixed_args = stop
        return p
    real = cli.get_parser
    monkeypatch.setattr(cli, 'get_parser', get)
    with pytest.raises(Known): getattr(cli, function)([])
    return found[0]

class Room:
    "The functions and methods of a module: what they call, and which errors they raise."
    def __init__(self, path):
        self.name, tree = path.stem, ast.parse(path.read_text(encoding='utf-8'))
        self.names = self.imported(tree)
        self.defs = {
            n.name: n
            for n in ast.walk(tree)
            if isinstance(n, (ast.FunctionDef, ast.ClassDef))
        }
    def imported(self, tree):
        "Local name -> (module, name), from the imports of this package; name None: the module."
        out = {}
        for n in ast.walk(tree):
            if not isinstance(n, ast.ImportFrom): continue
            module = (n.module or '').removeprefix('fetal_seg').lstrip('.')
            if n.level == 0 and not (n.module or '').startswith('fetal_seg'): continue
            for a in n.names:
                out[a.asname or a.name] = (module, a.name) if module else (a.name, None)
        return out

def rooms():
    return {p.stem: Room(p) for p in TOP.glob('*.py') if p.stem not in ('__init__', '_modidx')}

def calls(house, room, node):
    "The (room, name) that a function may call; of methods all that are called so."
    here, own = house[room], house[room].imported(node)
    both = {**here.names, **own}
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            if n.id in both:
                module, name = both[n.id]
                if name and module in house and name in house[module].defs: yield module, name
            elif n.id in here.defs: yield room, n.id
        elif isinstance(n, ast.Attribute):
            base = n.value.id if isinstance(n.value, ast.Name) else None
            module = both.get(base, (None, 0))
            if module[1] is None and module[0] in house:
                if n.attr in house[module[0]].defs: yield module[0], n.attr
            elif n.attr in here.defs and base == 'self': yield room, n.attr

def owner(node):
    "The class into which a function is patched; None where it is not."
    first = node.args.args[0].annotation if node.args.args else None
    patched = any('patch' in ast.unparse(d) for d in node.decorator_list)
    return ast.unparse(first) if patched and first else None

def methods(house, room, node):
    "The (room, name) of a class's methods, those included that are patched into it."
    if not isinstance(node, ast.ClassDef): return []
    own = [n.name for n in node.body   # `__init__` is of several classes; `calls` sees them
           if isinstance(n, ast.FunctionDef) and not n.name.startswith('__')]
    defs = house[room].defs.values()
    grown = [n.name for n in defs if isinstance(n, ast.FunctionDef) and owner(n) == node.name]
    return [(room, n) for n in own + grown]

def reach(house):
    "Command -> the functions that it may come to; of a class, all its methods."
    out, edges = {}, {}
    def next_of(at):
        if at not in edges:
            node = house[at[0]].defs[at[1]]
            edges[at] = {*methods(house, at[0], node), *calls(house, *at[:1], node)}
        return edges[at]
    for command,function in commands().items():
        seen, todo = set(), [('cli', function)]
        while todo:
            at = todo.pop()
            if at not in seen: seen.add(at); todo += next_of(at)
        out[command] = seen
    return out

def texts(house):
    "(room, function, line, the name of what is wrong, the rest) of every error."
    for r in house.values():
        for name,node in r.defs.items():
            if isinstance(node, ast.ClassDef): continue
            for n in ast.walk(node):
                if isinstance(n, ast.Call) and getattr(n.func, 'id', '') in ERRORS and n.args:
                    yield r.name, name, n.lineno, ast.unparse(
                        n.args[0]), [ast.unparse(a) for a in n.args[1:]]

@pytest.fixture(scope='module')
def known():
    house = rooms()
    with pytest.MonkeyPatch.context() as m:
        return house, reach(house), {c: options(f, m) for c, f in commands().items()}

def wrong(known):
    "Where an error names an option that the command at hand lacks."
    house, reached, has = known
    for room,function,line,first,rest in texts(house):
        by = [c for c,seen in reached.items() if (room, function) in seen]
        for text in rest:
            for command in COMMAND.findall(text):
                if command not in has:
                    yield f'{room}.{function} (line {line}): there is no command {command}'
            named = [c for c in COMMAND.findall(text) if c in has]
            for o in OPTION.findall(text):
                for c in (named or by):
                    if o not in has[c]:
                        yield f'{room}.{function} (line {line}): {c} has no {o}: {text}'
        # what is wrong was given: some command must take it
        for o in OPTION.findall(first):
            if by and not any(o in has[c] for c in by):
                yield f'{room}.{function} (line {line}): none of {", ".join(by)} has {o}'

def test_every_option_in_a_remedy_is_one_of_the_command(known):
    assert not (found := list(wrong(known))), '\n'.join(found)

def test_the_search_sees_what_it_should(known):
    house, reached, has = known
    some = {'--exams', '--layout', '--size', '--loss', '--valid', '--split', '--canvas'}
    assert len(has) >= 9 and some <= has['fetal_seg_crossval']
    assert ('preprocess', 'prepare') in reached['fetal_seg_crossval']
    assert ('data', 'split_cases') in reached['fetal_seg_demo']
    assert ('pipeline', 'demo') in reached['fetal_seg_demo']
    assert ('pipeline', 'demo') not in reached['fetal_seg_crossval']
    assert sum(bool(OPTION.search(' '.join([first, *rest])))
               for *_, first, rest in texts(house)) >= 15

@pytest.mark.parametrize(
    'room,old,new,text',
    [('train', '(fetal_seg_train --lr)', '(--lr)', 'fetal_seg_demo has no --lr'),
     ('pipeline', "'choose another folder, or delete this one'",
      "'choose another folder (--out), or delete this one'", 'fetal_seg_crossval has no --out'),
     ('data', 'add cases, or prepare with a share of 0',
      'add cases, or prepare (--fractions) with a share of 0',
      'fetal_seg_crossval has no --fractions'),
     ('preprocess', 'make one from a raw folder: fetal_seg_prepare RAW OUT',
      'make one from a raw folder: fetal_seg_check RAW OUT',
      'there is no command fetal_seg_check')],
    ids=lambda v: v if v.isalpha() else '')
def test_a_planted_violation_is_found(known, tmp_path, room, old, new, text):
    source = (TOP/f'{room}.py').read_text(encoding='utf-8')
    assert old in source
    (tmp_path/f'{room}.py').write_text(source.replace(old, new), encoding='utf-8')
    house = {**known[0], room: Room(tmp_path/f'{room}.py')}
    assert any(text in w for w in wrong((house, reach(house), known[2])))

def test_findings_name_options_of_the_command_that_they_name(known):
    from fetal_seg.verify import CHECKS
    *_, has = known
    for c in CHECKS.values():
        for text in c.remedy.values():
            named = COMMAND.findall(text) or ['fetal_seg_verify']
            for o in OPTION.findall(text): assert any(o in has[n] for n in named), (c.name, o, text)

def test_every_command_says_what_it_takes(known):
    "The options that `crossval` shares with prepare and train are called the same there."
    *_, has = known
    shared = {'--layout', '--exams', '--mode', '--annotation', '--region', '--spacing'}
    assert shared <= has['fetal_seg_prepare'] and shared <= has['fetal_seg_crossval']
    recipe = {
        '--preset', '--epochs', '--size', '--bs', '--lr', '--loss', '--intensity', '--width',
        '--scale', '--small', '--patience', '--seed'
    }
    assert recipe <= has['fetal_seg_train'] and recipe <= has['fetal_seg_crossval']
