"""Build the source archive and the wheel, check both, and install each where nothing else of the project can be seen.

    python tools/release.py   # make release: everything but the upload
"""
import importlib.metadata as md, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
smoke = ("import lesson8nlp, pathlib, sys; from lesson8nlp.all import *; lm = TextModel.pretrained(); "
         "assert 'env' in pathlib.Path(lesson8nlp.__file__).parts, lesson8nlp.__file__; "
         "print(lesson8nlp.__version__, lm, lm.generate('The film', max_tokens=5, seed=1), sep=' | ')")


def run(*args, **kw):
    "Run a command; its output, or all that it printed if it fails."
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | kw.pop('env', {})
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=600, env=env, **kw)
    if r.returncode: raise RuntimeError(f'{" ".join(map(str, args))}\n{r.stdout}\n{r.stderr}')
    return r.stdout


def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()


def closure(names):
    "The installed distributions that `names` need, themselves included, by name."
    found, todo = {}, [canonical(n) for n in names]
    while todo:
        n = todo.pop()
        if n in found: continue
        try: found[n] = md.distribution(n)
        except md.PackageNotFoundError: continue  # for another system
        for r in found[n].requires or []:
            if 'extra ==' in r: continue
            todo.append(canonical(re.match(r'[\w.-]+', r)[0]))
    return found


def library_needs(): return [re.match(r'[\w.-]+', r)[0] for r in md.distribution('lesson8nlp').requires if 'extra ==' not in r]


def environment(folder, more=('pip',)):
    "An environment with what the library requires and with `more`, linked from this one, and with nothing else; its Python."
    run(sys.executable, '-m', 'venv', '--without-pip', folder/'env')
    py = folder/'env'/('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    site = Path(run(py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip())
    for d in closure([*library_needs(), *more]).values():
        for top in {f.parts[0] for f in d.files or [] if f.parts and f.parts[0] not in ('..', '__pycache__')}:
            source = Path(d.locate_file(top))
            if source.exists() and not (site/top).exists(): (site/top).symlink_to(source, source.is_dir())
    return py, site


def build(dist):
    "The source archive and the wheel, in `dist`."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/'project'
        files = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=root).split('\0')
        for f in filter(None, files):
            if (root/f).is_file():
                (copy/f).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root/f, copy/f)
        run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', dist, cwd=copy)
    sdist, = dist.glob('*.tar.gz')
    wheel, = dist.glob('*.whl')
    return sdist, wheel


def install(py, archive, *args):
    "Install the archive by itself, from nowhere else."
    return run(py, '-m', 'pip', 'install', '-q', '--no-index', '--no-build-isolation', *args, archive)


def main():
    dist = root/'dist'
    shutil.rmtree(dist, ignore_errors=True)
    archives = build(dist)
    print(run(sys.executable, '-m', 'twine', 'check', '--strict', *archives).strip())
    for a in archives:
        start = time.time()
        with tempfile.TemporaryDirectory() as tmp:
            py, _ = environment(Path(tmp), ('pip', 'setuptools', 'wheel'))
            install(py, a)
            print(f'{a.name}, {a.stat().st_size/1e6:.1f} MB, installed and asked in {time.time() - start:.0f} s: {run(py, "-c", smoke, cwd=tmp).strip()}')
    version = re.search(r'^__version__ = "(.+)"', (root/'lesson8nlp'/'__init__.py').read_text(encoding='utf-8'), re.M)[1]
    changes = (root/'CHANGELOG.md').read_text(encoding='utf-8')
    if not re.search(rf'^## {re.escape(version)}\b', changes, re.M): print(f'CHANGELOG.md has no section "## {version}" yet: rename "Unreleased" before you tag.')
    print(f'Nothing was uploaded. To release: git tag -a v{version} -m "lesson8nlp {version}" && git push origin v{version}')


if __name__ == '__main__': main()
