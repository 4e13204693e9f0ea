"""Build the source archive and the wheel, check both, and install each where nothing else of the project can be seen.

    python tools/release.py   # make release: everything but the upload
"""
import configparser, importlib.metadata as md, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def closure(names):
    "The installed distributions that `names` (requirements) need, themselves included, by name."
    found, seen, todo = {}, set(), [Requirement(n) for n in names]
    while todo:
        r = todo.pop()
        name = canonicalize_name(r.name)
        for extra in ('', *r.extras):
            if (name, extra) in seen: continue
            seen.add((name, extra))
            try: found[name] = md.distribution(r.name)
            except md.PackageNotFoundError: continue  # left out by who made this environment
            needs = map(Requirement, found[name].requires or [])
            todo += [o for o in needs if o.marker is None or o.marker.evaluate({'extra': extra})]
    return found


def library_needs():
    "What the library requires, without its extras."
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']['requirements'].split()


def environment(folder, more=('pip',)):
    """An environment with what the library requires and with `more`, linked from this one, and with nothing else; its
    Python."""
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
    "Install the archive with what is there, and from nowhere else."
    env = dict(PIP_FIND_LINKS='', PIP_CONFIG_FILE=os.devnull)
    return run(py, '-m', 'pip', 'install', '-q', '--no-index', '--no-build-isolation', *args, archive, env=env)


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
            print(f'{a.name}, {a.stat().st_size/1e6:.1f} MB, installed and asked in {time.time() - start:.0f} s: '
                  f'{run(py, "-c", smoke, cwd=tmp).strip()}')
    version = re.search(r'^__version__ = "(.+)"',
                        (root/'lesson8nlp'/'__init__.py').read_text(encoding='utf-8'), re.M)[1]
    changes = (root/'CHANGELOG.md').read_text(encoding='utf-8')
    if not re.search(rf'^## {re.escape(version)}\b', changes, re.M):
        print(f'CHANGELOG.md has no section "## {version}" yet: rename "Unreleased" before you tag.')
    print(f'Nothing was uploaded. To release: git tag -a v{version} -m "lesson8nlp {version}" '
          f'&& git push origin v{version}')


if __name__ == '__main__': main()
