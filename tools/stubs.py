"""Write the type stubs of the modules whose classes grow by `@patch` (`make export` does).

    python tools/stubs.py [--check]

A type checker reads no decorator of fastcore's, so that to it a patched method is not there. The
stub of such a module says what its classes are when the module has been imported. `--check` writes
nothing and exits 1 where a stub is not what it would be.
"""
import ast, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
HEAD = '# Written by tools/stubs.py: edit the notebook, then run `make export`.\n'
ANY = ast.Name('Any')

def patch_of(node):
    "(class, kind) where a function is patched into a class; else None."
    for d in node.decorator_list:
        call = d if isinstance(d, ast.Call) else None
        if getattr(call.func if call else d, 'id', '') != 'patch': continue
        kind = {k.arg for k in call.keywords} if call else set()
        return node.args.args[0].annotation.id, kind
    return None

def optional(arg, default):
    "A parameter whose default is None takes None."
    none = isinstance(default, ast.Constant) and default.value is None
    if none and arg.annotation:
        arg.annotation = ast.BinOp(arg.annotation, ast.BitOr(), ast.Name('None'))

class AnyCallable(ast.NodeTransformer):
    "`callable` is a function, and no type."
    def visit_Name(self, node): return ast.Name('Any') if node.id == 'callable' else node

def signature(node, patched=None):
    "A function without its body, its defaults left open."
    args = node.args
    places = [*args.posonlyargs, *args.args]
    for arg,d in zip(places[len(places)-len(args.defaults):], args.defaults): optional(arg, d)
    for arg,d in zip(args.kwonlyargs, args.kw_defaults): optional(arg, d)
    args.defaults = [ast.Constant(...) for _ in args.defaults]
    args.kw_defaults = [d and ast.Constant(...) for d in args.kw_defaults]
    decorators = [] if patched else node.decorator_list
    if patched:
        args.args[0].annotation = None
        if 'as_prop' in patched[1]: decorators = [ast.Name('property')]
        if 'cls_method' in patched[1]: decorators = [ast.Name('classmethod')]
    kind = type(node)
    made = kind(node.name, args, [ast.Expr(ast.Constant(...))], decorators, node.returns)
    return AnyCallable().visit(made)

def attributes(function):
    "The names that a method gives to `self`."
    return {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)
            and isinstance(n.ctx, ast.Store) and getattr(n.value, 'id', '') == 'self'}

def open_names(targets):
    "Names that are assigned, as attributes of any type."
    names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [ast.AnnAssign(ast.Name(n), ANY, None, 1) for n in names]

def constants(node):
    "The names of an assignment at the top of a module; the list of public ones as it is."
    first = node.targets[0]
    if getattr(first, 'id', '') == '__all__': return [node]
    return [] if isinstance(first, (ast.Attribute, ast.Subscript)) else open_names(node.targets)

def class_stub(node, patched):
    "A class with the methods that were patched into it."
    body, given, found = [], set(), set()
    for n in [*node.body, *patched]:
        if isinstance(n, ast.FunctionDef):
            found |= attributes(n)
            given.add(n.name)
            body.append(signature(n, patch_of(n)))
        elif isinstance(n, ast.AnnAssign):
            given.add(n.target.id)
            body.append(n)
        elif isinstance(n, ast.Assign):
            given |= {t.target.id for t in open_names(n.targets)}
            body += open_names(n.targets)
        elif isinstance(n, ast.ClassDef): body.append(class_stub(n, []))
    fields = [ast.AnnAssign(ast.Name(a), ANY, None, 1) for a in sorted(found - given)]
    node.body = fields + body or [ast.Expr(ast.Constant(...))]
    return node

def stub(path):
    "The stub of a module; None where nothing is patched."
    tree, patched, out = ast.parse(path.read_text(encoding='utf-8')), {}, []
    methods = [(n, patch_of(n)) for n in tree.body if isinstance(n, ast.FunctionDef)]
    methods = {n: p[0] for n,p in methods if p}
    for n,owner in methods.items(): patched.setdefault(owner, []).append(n)
    if not patched: return None
    for n in tree.body:
        if n in methods: continue
        if isinstance(n, (ast.Import, ast.ImportFrom)): out.append(n)
        elif isinstance(n, ast.ClassDef): out.append(class_stub(n, patched.pop(n.name, [])))
        elif isinstance(n, ast.FunctionDef): out.append(signature(n))
        elif isinstance(n, ast.AnnAssign): out.append(n)
        elif isinstance(n, ast.Assign): out += constants(n)
    if patched: sys.exit(f'{path.name}: methods for classes of other modules: {", ".join(patched)}')
    module = ast.fix_missing_locations(ast.Module(out, []))
    return HEAD + 'from typing import Any\n' + ast.unparse(module) + '\n'

def main(check=False):
    wrong = []
    for p in sorted((top/'fetal_seg').glob('*.py')):
        text, f = stub(p), p.with_suffix('.pyi')
        old = f.read_text(encoding='utf-8') if f.exists() else None
        if text == old: continue
        wrong.append(f.name)
        if check: continue
        if text is None: f.unlink()
        else: f.write_text(text, encoding='utf-8')
    if check and wrong:
        sys.exit(f'not in step with the library: {", ".join(wrong)}; run `make export`')

if __name__ == '__main__': main('--check' in sys.argv)
