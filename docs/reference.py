"""The library's pages: one for each module, made from the objects themselves and from the notebook that exports
them."""
import importlib, inspect, re

from fastcore.docments import docments

import adapter as ad


def short(v, n=60):
    s = re.sub(r' at 0x[0-9a-f]+', '', repr(v))
    s = getattr(v, '__qualname__', s) if callable(v) else s
    return s if len(s) <= n else s[:n-1] + '…'


def kind_of(t):
    if t is inspect.Parameter.empty or t is type(None): return ''
    return getattr(t, '__name__', str(t)).replace('typing.', '')


def comments(fn):
    "Docments; a constructor that was generated, as that of a dataclass, has a signature and no comments."
    try: return docments(fn, full=True)
    except OSError:
        return {n: dict(docment=None, anno=p.annotation, default=p.default, kind=p.kind)
                for n, p in inspect.signature(fn).parameters.items()}


def params(fn):
    "Rows (name, type, default, what it is), and the names of the keywords that are handed on to fastai."
    rows, more = [], []
    for n, d in comments(fn).items():
        if n in ('self', 'return') or n.startswith('_'): continue
        if d['docment'] is None and d['kind'] == inspect.Parameter.KEYWORD_ONLY: more.append(n); continue
        star = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}.get(d['kind'], '')
        default = '' if d['default'] is inspect.Parameter.empty else f'`{short(d["default"])}`'
        rows.append((star + n, kind_of(d['anno']), default, d['docment'] or ''))
    return rows, more


def first(o): return next((l.strip() for l in (o.__doc__ or '').split('\n') if re.search(r'\w', l)), '')  # not a rule
def cell(s): return str(s).replace('|', '\\|').replace('\n', ' ')


def table(fn):
    rows, more = params(fn)
    ret = comments(fn).get('return') or {}
    k = kind_of(ret.get('anno', inspect.Parameter.empty))
    back = ' '.join(o for o in (k and f'`{k}`', ret.get('docment') or '') if o)
    md = ''
    if rows:
        show = lambda i: any(r[i] for r in rows)
        cols = [(0, 'parameter')] + [(i, h) for i, h in ((1, 'type'), (2, 'default'), (3, 'what it is')) if show(i)]
        md += '| ' + ' | '.join(h for _, h in cols) + ' |\n' + '|---'*len(cols) + '|\n'
        for r in rows:
            md += '| ' + ' | '.join(cell(f'**{r[0]}**' if i == 0 else f'`{r[1]}`' if i == 1 and r[1] else r[i])
                                    for i, _ in cols) + ' |\n'
    if back: md += f'\n**Returns** {back}\n'
    if more: md += f'\n{len(more)} more keywords are handed on to fastai: ' + ', '.join(f'`{m}`' for m in more) + '\n'
    return md


def signature(fn, drop=1):
    rows, more = params(fn)
    parts = [n + (f'={d[1:-1]}' if d else '') for n, _, d, _ in rows]
    return f"({', '.join(parts + (['...'] if more else []))})"


def source_of(obj, repo):
    obj = inspect.unwrap(obj)
    if isinstance(obj, property): obj = obj.fget
    try: line, mod = inspect.getsourcelines(obj)[1], inspect.getmodule(obj).__name__
    except (TypeError, OSError): return None
    if mod.split('.')[0] != 'lesson8nlp': return None  # inherited: it is in another repository
    return f'{repo}/blob/main/{mod.replace(".", "/")}.py#L{line}'


def methods(cls):
    "The class's own public methods and properties that have a docstring."
    for n, o in vars(cls).items():
        f = o.fget if isinstance(o, property) else getattr(o, '__func__', o)
        if (n.startswith('_') and n not in ('__call__', '__len__', '__getitem__', '__iter__')) or not callable(f):
            continue
        if n == 'forward' and not f.__doc__: continue
        if f.__doc__ and getattr(f, '__module__', '').startswith('lesson8nlp'): yield n, o, f


def examples(page, names):
    "For each name the first visible cell after its definition that uses it."
    found, cells = {}, page.nb['cells']
    where = {}
    for i, c in enumerate(cells):
        ds = ad.directives(c)
        if any(re.match(r'exports?\b', d) for d in ds):
            for n in ad.defined(ad.text(c)): where.setdefault(n, i)
    usable = [(i, c) for i, c in enumerate(cells)
              if c['cell_type'] == 'code' and not ad.directives(c) and 1 < len(ad.text(c).splitlines()) + 1 <= 15
              and not re.match(r'(from|import) [^\n]*$', ad.text(c))]
    for n in names:
        at = where.get(n, 0)
        later = [c for i, c in usable if i > at and re.search(
            rf'\b{re.escape(n)}\b(?!\()' if n.isupper() else rf'\b{re.escape(n)}\b', ad.text(c))]
        if later: found[n] = later[0]
    return found


def outputs(c):
    for o in c.get('outputs', []):
        data = o.get('data', {})
        if 'text/html' in data:
            yield (f'```{{raw}} html\n<div class="example-table">{ad.table_html("".join(data["text/html"]))}</div>'
                   '\n```')
        elif 'image/png' in data: continue
        elif t := ''.join(data.get('text/plain', o.get('text', ''))).rstrip(): yield f'```text\n{t}\n```'


def entry(kind, name, sig, module, body):
    return f'``````{{py:{kind}}} {name}{sig}\n:module: {module}\n\n{body.strip()}\n``````'


def makers(page):
    "{name: the page that defines it}, for the module of `page`: its own page, and others that export cells to it."
    made, adds = {}, re.compile(rf'#\| exports? {page.module}\b')
    others = [ad.Page(p) for p in sorted(ad.nbs.rglob('[0-9]*.ipynb')) if adds.search(p.read_text(encoding='utf-8'))]
    for p in [page, *others]:
        for c in p.nb['cells']:
            if any(re.match(r'exports?\b', d) and d.split()[1:] in ([], [page.module]) for d in ad.directives(c)):
                for n in ad.defined(ad.text(c)): made.setdefault(n.split('.')[0], p)
    return made


def own(page):
    "The public names of the module that `page` exports, and that it has not imported from another."
    mod, made = importlib.import_module(f'lesson8nlp.{page.module}'), makers(page)
    return mod, [n for n in dict.fromkeys(mod.__all__) if n in made]


def module_page(page, repo):
    "Cells of the page of the module that `page` exports."
    mod, here = own(page)
    doc = (mod.__doc__ or '').split('\n')[0] or page.subtitle
    made = makers(page)
    lessons = ' and '.join(f'[{p.title}](../{p.doc}.ipynb)' for p in dict.fromkeys([page, *made.values()]))
    cells = [ad.markdown(f'# lesson8nlp.{page.module}\n\n{{.subtitle}}\n> {doc}\n'),
        ad.markdown(f'`from lesson8nlp.{page.module} import ...` · built, explained and tested in {lessons}.\n\n'
                    + summary(mod, here))]
    ex = {n: c for p in dict.fromkeys(made[n] for n in here)
          for n, c in examples(p, [n for n in here if made[n] is p]).items()}
    for n in here:
        o = getattr(mod, n)
        links = [f'[source]({u})' if (u := source_of(o, repo)) else '',
                 f'<a href="../{made[n].doc}.html#{n}">in the lesson</a>']
        line = '\n\n{.entry-links}\n' + ' · '.join(l for l in links if l) + '\n\n'
        example = ''
        if n in ex:
            example = ('**Example**\n\n```python\n' + ad.bare(ad.text(ex[n])) + '\n```\n\n'
                       + '\n\n'.join(outputs(ex[n])))
        cells.append(ad.anchors([n]))
        if inspect.isclass(o):
            init = o.__init__ if getattr(o.__init__, '__module__', '').startswith('lesson8nlp') else None
            body = f'{first(o)}{line}' + (table(init) if init else '') + '\n' + example
            cells.append(ad.markdown(entry('class', n, signature(init) if init else '', mod.__name__, body)))
            for m, _, f in methods(o):
                kind = ('property' if isinstance(vars(o)[m], property) else
                        'classmethod' if isinstance(vars(o)[m], classmethod) else 'method')
                src = f'\n\n{{.entry-links}}\n[source]({u})\n\n' if (u := source_of(f, repo)) else '\n\n'
                cells += [ad.anchors([f'{n}.{m}']),
                    ad.markdown(entry(kind, f'{n}.{m}', '' if kind == 'property' else signature(f), mod.__name__,
                                      f'{first(f)}{src}{table(f) if kind != "property" else ""}'))]
        elif callable(o):
            cells.append(ad.markdown(entry('function', n, signature(o), mod.__name__,
                                           f'{first(o)}{line}{table(o)}\n{example}')))
        else: cells.append(ad.markdown(entry('data', n, '', mod.__name__, f'`{short(o, 120)}`{line}{example}')))
    return cells


def summary(mod, names):
    rows = [(n, (getattr(mod, n).__doc__ or '').split('\n')[0] if callable(getattr(mod, n)) else
             f'`{short(getattr(mod, n))}`') for n in names]
    return '| name | what it is |\n|---|---|\n' + '\n'.join(f'| `{n}` | {cell(d)} |' for n, d in rows) if rows else ''


def overview(pages, repo):
    "The library's first page: every module and every name."
    out = ['# The library\n\n{.subtitle}\n> Every module and every public name, in the order in which the data flows. '
           '`from lesson8nlp.all import *` brings all of them.\n']
    for p in pages:
        mod, names = own(p)
        if not names: continue
        out.append(f'## [{p.module}]({p.module}.ipynb)\n\n'
                   f'{(mod.__doc__ or "").splitlines()[0] if mod.__doc__ else p.subtitle}\n\n'
                   + ' · '.join(f'`{n}`' for n in names))
    return [ad.markdown(o) for o in out]
