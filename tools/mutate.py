"""Change a condition or a default in the package, and see whether the tests of its module notice: `make mutate`.

    python tools/mutate.py --n 20 --seed 42
"""
import argparse, ast, os, random, shutil, subprocess, sys, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
other = {ast.Lt: '<=', ast.LtE: '<', ast.Gt: '>=', ast.GtE: '>', ast.Eq: '!=', ast.NotEq: '=='}
sign = {ast.Lt: '<', ast.LtE: '<=', ast.Gt: '>', ast.GtE: '>=', ast.Eq: '==', ast.NotEq: '!='}


def changed(value):
    "Another default of the same kind, or None where there is none to think of."
    if isinstance(value, bool): return repr(not value)
    if isinstance(value, (int, float)): return repr(value + 1)


def mutants(source):
    "All (line, from column, to column, new text) of comparisons and defaults in Python code; columns in bytes."
    lines = source.encode().split(b'\n')
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in other:
            a, b = node.left, node.comparators[0]
            if a.end_lineno != b.lineno: continue
            between, op = lines[b.lineno-1][a.end_col_offset:b.col_offset], sign[type(node.ops[0])].encode()
            if (i := between.find(op)) < 0: continue
            start = a.end_col_offset + i
            yield b.lineno, start, start + len(op), other[type(node.ops[0])]
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            for d in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                if isinstance(d, ast.Constant) and (new := changed(d.value)) is not None:
                    yield d.lineno, d.col_offset, d.end_col_offset, new


def apply(source, mutant):
    line, start, end, new = mutant
    lines = source.encode().split(b'\n')
    lines[line-1] = lines[line-1][:start] + new.encode() + lines[line-1][end:]
    return b'\n'.join(lines).decode()


def draw(n, seed):
    "`n` mutants of modules that have a test file, as (module, mutant)."
    tested = [p for p in sorted((root/'lesson8nlp').glob('[!_]*.py')) if (root/'tests'/f'test_{p.stem}.py').exists()]
    every = [(p.stem, m) for p in tested for m in sorted(set(mutants(p.read_text(encoding='utf-8'))))]
    return random.Random(seed).sample(every, min(n, len(every)))


def python(*args, **kw):
    "Run Python from the root of the project, without that folder in front of the path of imports."
    return subprocess.run([sys.executable, '-P', *args], cwd=root, capture_output=True, text=True, **kw)


def passes(module, mutant=None, timeout=600):
    "Do the tests of the module pass, with this change if there is one?"
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(root/'lesson8nlp', Path(tmp)/'lesson8nlp', ignore=shutil.ignore_patterns('__pycache__'))
        f = Path(tmp)/'lesson8nlp'/f'{module}.py'
        if mutant: f.write_text(apply(f.read_text(encoding='utf-8'), mutant), encoding='utf-8')
        env = os.environ | dict(PYTHONPATH=tmp, OMP_NUM_THREADS='1')
        where = python('-c', 'import lesson8nlp; print(lesson8nlp.__file__)', env=env).stdout
        if tmp not in where: raise RuntimeError(f'The changed package is in {tmp}, and Python imports {where}')
        # if the change breaks an import, pytest goes on with what it could collect: status 1, as for any failed test
        r = python('-m', 'pytest', '-x', '-q', '-m', 'not slow', '--continue-on-collection-errors',
                   f'tests/test_{module}.py', env=env, timeout=timeout)
    if r.returncode not in (0, 1):
        raise RuntimeError(f'pytest ended with status {r.returncode} on the tests of {module}, not with 0 (all passed) '
                           f'or 1 (some failed). Mend what it says:\n{r.stdout}{r.stderr}')
    return r.returncode == 0


def noticed(module, mutant, timeout=600):
    "Do the tests of the module fail with this change?"
    try: return not passes(module, mutant, timeout)
    except subprocess.TimeoutExpired: return True  # an endless loop is noticed


def check_unchanged(modules):
    "The tests of each module pass in time without a change, or a failure would say nothing."
    for m in modules:
        if not passes(m): raise RuntimeError(f'Tests of {m} fail without a change: mend what '
                                             f'"pytest -m \'not slow\' tests/test_{m}.py" finds first.')


def survivors(n=20, seed=42):
    "Print each mutant and what became of it; the ones that no test noticed."
    left, drawn = [], draw(n, seed)
    check_unchanged(sorted({module for module, _ in drawn}))
    for i, (module, mutant) in enumerate(drawn, 1):
        start, source = time.time(), (root/'lesson8nlp'/f'{module}.py').read_text(encoding='utf-8')
        ok = noticed(module, mutant)
        before, after = (s.split('\n')[mutant[0]-1].strip() for s in (source, apply(source, mutant)))
        print(f'[{i}/{n}] {"noticed " if ok else "SURVIVED"} {time.time() - start:4.0f} s  {module}.py:{mutant[0]}\n'
              f'    {before}\n    {after}', flush=True)
        if not ok: left.append((module, *mutant))
    print(f'{len(left)} of {n} survived (seed {seed})')
    return left


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description='Mutate conditions and defaults, and see whether the tests notice.')
    ap.add_argument('--n', type=int, default=20)
    ap.add_argument('--seed', type=int, default=42)
    a = ap.parse_args()
    survivors(a.n, a.seed)
