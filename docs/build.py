"""Build the site from the notebooks: `python docs/build.py` writes build/docs; with --serve it is shown, and what
changes is built again; --links follows the links to other sites."""
import argparse, importlib, json, os, re, shlex, shutil, sys, time, tomllib
from pathlib import Path

root = Path(__file__).resolve().parent.parent
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'agg')
import adapter as ad

source, site = root/'build'/'docs-source', root/'build'/'docs'
jobs_and_folders = ['-j', '2', '-c', str(root/'docs'), '-d', str(root/'build'/'doctrees'), str(source)]
strict = ['-W', '--keep-going', '-q', *jobs_and_folders, str(site)]


def urls(): return tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']


def run_times():
    path = root/'benchmarks'/'results'/'lessons.json'
    return {r['what']: r for r in json.loads(path.read_text(encoding='utf-8'))} if path.exists() else {}


def prepared(force):
    """What nbdev makes of the notebooks for its own site, in _proc/: names linked, hidden cells away, every `show_doc`
    tried."""
    from nbdev.serve import proc_nbs
    return proc_nbs(force=force)


def stage(force=True):
    "Write every page of the site as a notebook or a file of MyST markdown into build/docs-source."
    proc = prepared(force)
    import architecture, reference, widgets
    from lesson8nlp.all import module_order
    pages, addr, times = ad.pages(), urls(), run_times()
    known, links = {p.rel: p for p in pages}, ad.Links(pages, addr)
    written, info = [], {}
    lessons = [p for p in pages if p.lesson]
    modules = sorted((p for p in lessons if p.module), key=lambda p: module_order.index(p.module))
    public = {n for p in modules for n in importlib.import_module(f'lesson8nlp.{p.module}').__all__}
    marks = widgets.marks(pages, times)
    def page(doc, cells, made_of, **kw):
        # it stands in no list of pages, and Sphinx need not warn
        meta = dict(orphan=True) if made_of.unmeasured and not kw else {}
        written.append(ad.write(source/f'{doc}.ipynb', ad.notebook(cells, **meta)))
        row = times.get(made_of.path.stem)
        info[doc] = dict(notebook=f'nbs/{made_of.rel}',
            minutes=max(1, round(sum(len(ad.text(c).split()) for c in cells)/220)) if kw else made_of.minutes(),
            seconds=row and row['ours'], hardware=row and row['hardware'], code=made_of.code_cells()) | kw
    for p in pages:
        if not (proc/p.rel).exists(): raise SystemExit(f'nbdev has not prepared {p.rel}.')
        cells = ad.convert(p, json.loads((proc/p.rel).read_text(encoding='utf-8')), links, known, marks, public)
        if p.rel == 'index.ipynb': cells.append(ad.markdown(contents(pages, modules)))
        page(p.doc, cells, p)
    for p in modules: page(p.api, reference.module_page(p, addr['Repository']), p, reference=True)
    page('architecture', architecture.page(modules, module_order), known['index.ipynb'], reference=True)
    page('api/index', reference.overview(modules, addr['Repository']), known['index.ipynb'], reference=True)
    page('exercises', exercises(lessons, pages, known), known['index.ipynb'], reference=True)
    written.append(ad.write(source/'pages.json', json.dumps(dict(pages=info, urls=addr, names=reference_of(modules)))))
    for f in source.rglob('*'):
        if f.is_file() and f not in written and 'static-made' not in f.parts: f.unlink()
    widgets.data(source/'static-made')
    return info


def reference_of(modules):
    "{name: page of the reference}, for every public name, every module and every method that has an entry."
    import reference
    names = {}
    for p in modules:
        names[f'lesson8nlp.{p.module}'] = p.api
        mod, here = reference.own(p)
        for n in here:
            o = getattr(mod, n)
            names.setdefault(n, p.api)
            if isinstance(o, type): names |= {f'{n}.{m}': p.api for m, _, _ in reference.methods(o)}
    return names


def tree(caption, docs, **opts):
    return ('```{toctree}\n:hidden:\n:caption: ' + caption + '\n' + ''.join(f':{k}:\n' for k in opts) + '\n'
            + '\n'.join(docs) + '\n```')


def contents(pages, modules):
    """The side bar: course, internals and how-to pages in the order of the file names, the library in the order of its
    modules. What waits for a GPU is left out."""
    of = lambda g: [p.doc for p in pages if p.group == g and not p.unmeasured]
    front = [p.doc for p in pages if p.group == 'page' and p.doc not in ('index', 'glossary')]
    results = sorted(front, key=lambda d: (d != 'results', d)) + of('runs')
    course = [p for p in pages if p.group == 'course']
    parts = {f'Part {i}. {t}': [p.doc for p in course if p.part == i] for i, t in enumerate(ad.parts())}
    parts |= {'Practice': ['exercises', 'glossary'], 'Internals': of('internals'), 'How to': of('howto'),
             'Results': results, 'Library': ['api/index', 'architecture', *[p.api for p in modules]]}
    return '\n\n'.join(tree(caption, docs) for caption, docs in parts.items() if docs)


def exercises(lessons, pages, known):
    "One page that leads to every questionnaire, every exercise and every answer."
    out = ['# Exercises\n\n{.subtitle}\n> Every lesson ends in questions and in exercises that check themselves. '
           'Answers are folded away below each, and stand whole on pages of their own.\n']
    for p in lessons:
        cells = p.nb['cells']
        rows = [ad.text(c).strip() for h, c in ad.sections(cells)
                if h == 'Exercises' and c['cell_type'] == 'markdown' and ad.text(c).startswith('**')]
        n = sum(ad.re.match(r'\d+\. ', l) is not None
                for h, c in ad.sections(cells) if h == 'Questionnaire' for l in ad.text(c).splitlines())
        if not rows: continue
        other = known.get(p.answers)
        links = ad.Links(list(known.values()), urls())
        head = (f'## {p.title}\n\n[{n} questions]({p.doc}.ipynb#questionnaire) · '
                f'[the exercises, with hidden answers]({p.doc}.ipynb#exercises)')
        if other: head += f' · [the answers, executed]({other.doc}.ipynb)'
        out.append(head + '\n\n' + '\n\n'.join(links(r, ad._At(p.rel, 'exercises')) for r in rows))
    out.append(tree('Answers', [p.doc for p in pages if p.group == 'answers']))
    return [ad.markdown(o) for o in out]


def sphinx(*args):
    from sphinx.cmd.build import main
    return main(list(args))


def downloads():
    "The notebooks as they are, beside the pages, to be downloaded."
    for p in ad.pages():
        to = site/'notebooks'/p.rel
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(p.path, to)


def build():
    begun = time.time()
    shutil.rmtree(site, ignore_errors=True)
    stage()
    if code := sphinx('-E', '-a', *strict): return code
    downloads()
    print(f'{len(list(site.rglob("*.html")))} pages in {time.time()-begun:.0f} s: '
          f'open {(site/"index.html").relative_to(root)}')
    return 0


def serve(port, browser):
    """Show the site on this machine, build again what changes, and reload it in the browser; a page that fails says so,
    and the last good one stays."""
    from sphinx_autobuild.__main__ import main
    # Sphinx, in a process of its own, finds extras.py there
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(root/'docs'), os.environ.get('PYTHONPATH')]))
    # with / on Windows, too: the command is split as a shell does it. A fresh process sees the fresh library
    command = [Path(sys.executable).as_posix(), (root/'docs'/'build.py').as_posix(), '--stage']
    hidden = re.escape(root.as_posix()) + r'/(.*/)?(\.|__pycache__)'
    watched = [f'--watch={root/d}' for d in ('nbs', 'docs', 'benchmarks/results')]
    main(['--no-initial', f'--port={port}', *['--open-browser', '--delay=0']*browser, *watched,
          f'--pre-build={shlex.join(command)}', f'--ignore={root/"build"}', f'--re-ignore={hidden}', *strict])


def follow_links(to, *args):
    "Ask for every link to another site; what is broken is printed, and `to`/output.txt has every answer."
    return sphinx('-b', 'linkcheck', '-q', *args, *jobs_and_folders, str(to))


if __name__ == '__main__':
    arg = argparse.ArgumentParser(description=__doc__)
    what = arg.add_mutually_exclusive_group()
    what.add_argument('--serve', action='store_true', help='show the site and build again what changes')
    what.add_argument('--stage', action='store_true', help='only write what Sphinx reads, where it has changed')
    what.add_argument('--links', action='store_true', help='follow the links to other sites')
    arg.add_argument('--port', type=int, default=8000)
    arg.add_argument('--no-browser', action='store_true')
    a = arg.parse_args()
    if a.stage or a.links: stage(force=False)
    if a.links: sys.exit(follow_links(root/'build'/'links'))
    if a.stage: sys.exit(downloads())
    code = build()
    if not a.serve: sys.exit(code)
    serve(a.port, not a.no_browser)
