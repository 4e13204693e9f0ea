"""Turn the notebooks that `nbdev.serve.proc_nbs` has prepared for Quarto into pages for Sphinx and myst-nb.

A page is a notebook of MyST markdown, written to the folder `out`. The order of the pages comes from the names of the
files: nothing here lists them."""
import ast, json, os, re, tomllib
from pathlib import Path, PurePosixPath

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'


def text(c): return c['source'] if isinstance(c['source'], str) else ''.join(c['source'])
def markdown(s, **meta): return dict(cell_type='markdown', metadata=meta, source=s)
def directives(c): return re.findall(r'^#\|\s*(.+?)\s*$', text(c), re.M) if c['cell_type'] == 'code' else []
def bare(s): return re.sub(r'^#\|.*\n?', '', s, flags=re.M).strip('\n')


def course(): return tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['tool']['lesson8nlp']['parts']
def parts(): return [p['title'] for p in course()]


class Page:
    "One notebook of nbs/, and where it goes."
    def __init__(self, path):
        self.path, self.rel = path, path.relative_to(nbs).as_posix()
        # 03b_fasttok -> fasttok, as nbdev names its pages
        self.doc = re.sub(r'(^|/|answers_)\d+[a-z]?_', r'\1', self.rel[:-6])
        self.nb = json.loads(path.read_text(encoding='utf-8'))
        head = next(text(c) for c in self.nb['cells'] if c['cell_type'] == 'markdown')
        self.title = re.search(r'^# (.+)', head, re.M)[1].strip()
        self.subtitle = m[1].strip() if (m := re.search(r'^> (.+)', head, re.M)) else ''
        self.lesson = path.name[0].isdigit() and self.rel.split('/')[0] in (self.rel, 'internals')
        exp = [d.split()[1] for c in self.nb['cells'] for d in directives(c) if d.startswith('default_exp')]
        self.module = exp[0] if exp else None

    @property
    def group(self): # answers, or the folder; at the top course or page
        if self.path.name.startswith('answers_'): return 'answers'
        return self.rel.split('/')[0] if '/' in self.rel else 'course' if self.lesson else 'page'

    @property
    def part(self):
        return (max(i for i, p in enumerate(course()) if p['first'] <= int(self.path.name[:2]))
                if self.group == 'course' else None)

    @property
    def unmeasured(self): # a page about a GPU whose own table of machines says that no GPU has been measured yet
        outs = (''.join(d) for c in self.nb['cells'] for o in c.get('outputs', [])
                if (d := o.get('data', {}).get('text/markdown')))
        return any(re.search(r'^\| GPU \| not run', o, re.M) for o in outs)

    @property
    def answers(self): return f'answers/answers_{self.path.name}'

    @property
    def api(self): return f'api/{self.module}'

    def minutes(self):
        "Time to read: 220 words of prose a minute, and 3 seconds for a line of code."
        words = sum(len(re.findall(r'\w+', text(c))) for c in self.nb['cells'] if c['cell_type'] == 'markdown')
        lines = sum(len(bare(text(c)).splitlines()) for c in self.nb['cells']
                    if c['cell_type'] == 'code' and 'hide' not in directives(c))
        return max(1, round(words/220 + lines/20))

    def code_cells(self): return sum(c['cell_type'] == 'code' for c in self.nb['cells'])


def pages():
    "Every notebook, in the order of the file names."
    files = [p for p in sorted(nbs.rglob('*.ipynb')) if not any(o.startswith('.') for o in p.relative_to(nbs).parts)]
    return [Page(p) for p in files]


class Links:
    """Links between notebooks, made links between pages; other files of the repository are links to where it is
    published."""
    def __init__(self, pages, urls):
        self.doc = {p.rel: p.doc for p in pages}
        self.repo, self.site = urls['Repository'].rstrip('/'), urls['Documentation'].rstrip('/')

    def target(self, to, page):
        if re.match(r'[a-z]+:|#', to): return to
        path, _, anchor = to.partition('#')
        rel = os.path.normpath(PurePosixPath(page.rel).parent/path).replace(os.sep, '/')
        if rel in self.doc: return self.relative(self.doc[rel], page) + '.ipynb' + (f'#{anchor}' if anchor else '')
        if rel == 'answers': return self.relative('exercises', page) + '.ipynb'
        inside = os.path.normpath(PurePosixPath('nbs')/rel).replace(os.sep, '/')
        return f'{self.repo}/blob/main/{inside}'

    def relative(self, doc, page): return os.path.relpath(doc, PurePosixPath(page.doc).parent).replace(os.sep, '/')

    def __call__(self, md, page):
        # nbdev's links to this package: extras.py makes them, local
        md = re.sub(rf'\[(`[^`]+`)\]\({re.escape(self.site)}/[^)]*\)', r'\1', md)
        out, fence = [], False
        for line in md.split('\n'):
            if line.lstrip().startswith('```'): fence = not fence
            out.append(line if fence else re.sub(r'\]\(([^)\s]+)\)', lambda m: f']({self.target(m[1], page)})', line))
        return '\n'.join(out)


def callouts(md):
    "Quarto's callouts as MyST's admonitions."
    def opened(m):
        kind = {'important': 'important', 'warning': 'warning', 'caution': 'caution', 'tip': 'tip'}.get(m[2], 'note')
        title = re.search(r'title="(.+?)"', m[3])
        return f'{m[1]}{{admonition}} {title[1]}\n:class: {kind}' if title else f'{m[1]}{{{kind}}}'
    return re.sub(r'^(:::+)\s*\{\.callout-(\w+)(.*?)\}\s*$', opened, md, flags=re.M)


def defined(src):
    "The public names that a cell of code defines; a method that is patched in as Class.method."
    names = []
    for n in ast.parse(re.sub(r'^[%!].*$', '', src, flags=re.M)).body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            patched = any(getattr(d, 'id', getattr(getattr(d, 'func', None), 'id', '')) == 'patch'
                          for d in n.decorator_list)
            cls = getattr(n.args.args[0].annotation, 'id', None) if patched and n.args.args else None
            names.append(f'{cls}.{n.name}' if cls else n.name)
        elif isinstance(n, ast.Assign):
            for t in n.targets: names += [e.id for e in getattr(t, 'elts', [t]) if isinstance(e, ast.Name)]
    return [n for n in names if not n.split('.')[-1].startswith('_') or re.search(r'\.__\w+__$', n)]


def anchors(names):
    return markdown('```{raw} html\n' + ''.join(f'<span class="anchor" id="{n}"></span>' for n in names) + '\n```')


def code_cell(c, page, links, exported=False):
    "A code cell as myst-nb wants it: options become tags, the description of a figure its alternative text."
    meta, opts = {}, {}
    for d in directives(c):
        k, _, v = d.partition(':')
        opts[k.strip()] = v.strip().strip('"\'')
    tags = []
    if opts.get('echo') == 'false' or 'hide_input' in opts: tags.append('remove-input')
    if opts.get('output') == 'false' or 'hide_output' in opts: tags.append('remove-output')
    if opts.get('code-fold') in ('true', 'show'): tags.append('hide-input')
    if opts.get('eval') == 'false': tags.append('to-solve')
    if exported: tags.append('exported')
    if tags: meta['tags'] = tags
    if 'fig-alt' in opts: meta['mystnb'] = {'image': {'alt': opts['fig-alt']}}
    outs = json.loads(json.dumps(c.get('outputs', [])))
    for o in outs:
        data = o.get('data', {})
        if 'text/markdown' in data: data['text/markdown'] = links(''.join(data['text/markdown']), page)
        elif 'text/html' in data: data['text/html'] = table_html(''.join(data['text/html']))
    return dict(cell_type='code', metadata=meta, source=bare(text(c)), outputs=outs, execution_count=None)


def table_html(h):
    "pandas' tables without the style sheet that each of them brings, and with headings that say what they head."
    h = re.sub(r'<style scoped>.*?</style>|<style>.*?</style>', '', h, flags=re.S)
    # the ground of words in a text is content
    h = re.sub(r' (border|align)="[^"]*"| style="(?!background:rgba)[^"]*"', '', h)
    h = re.sub(r'(<thead>.*?</thead>)',
        lambda m: re.sub(r'<th></th>', '<td></td>', m[1]).replace('<th>', '<th scope="col">'), h, flags=re.S)
    return re.sub(r'(<tbody>.*?</tbody>)', lambda m: m[1].replace('<th>', '<th scope="row">'), h, flags=re.S)


def sections(cells):
    "Pairs of (the H2 that a cell is under, the cell)."
    h2 = None
    for c in cells:
        if c['cell_type'] == 'markdown' and (m := re.match(r'## (.+)', text(c))): h2 = m[1].strip()
        yield h2, c


def answers(page, known):
    "From the page's notebook of answers: {'Questionnaire': markdown, '1': cells, '2': cells, ...}."
    other = known.get(page.answers)
    found, n = {}, None
    if not other: return found
    for h2, c in sections(other.nb['cells']):
        s = text(c)
        if s.startswith('#'): continue
        if h2 == 'Questionnaire' and c['cell_type'] == 'markdown': found[h2] = found.get(h2, '') + s + '\n\n'
        if h2 == 'Exercises':
            if c['cell_type'] == 'code':
                if n and 'hide' not in directives(c): found.setdefault(n, []).append(c)
                continue
            for part in re.split(r'^(?=\*\*\d+\.?\*\*)', s, flags=re.M):
                if m := re.match(r'\*\*(\d+)\.?\*\*\s*', part): n, part = m[1], part[m.end():]
                if n and part.strip() and not part.startswith('Back to'): found.setdefault(n, []).append(markdown(part))
    return found


def folded(title, body):
    "Markdown that is shown when it is asked for."
    raw = lambda h: f'```{{raw}} html\n{h}\n```'
    return markdown('\n\n'.join([raw(f'<details class="answer"><summary>{title}</summary>'), body.strip(),
                                 raw('</details>')]))


def answer_text(cells, page, links, other):
    "The cells of an answer as markdown, to stand in a fold."
    out = []
    for c in cells:
        if c['cell_type'] == 'markdown': out.append(links(text(c), other)); continue
        out.append(f'```python\n{bare(text(c))}\n```')
        for o in c.get('outputs', []):
            t = ''.join(o.get('data', {}).get('text/plain', o.get('text', ''))).rstrip()
            if t and 'image/png' not in o.get('data', {}): out.append(f'```text\n{t}\n```')
    return '\n\n'.join(out)


class _At:
    "A page's links as they look from another page."
    def __init__(self, rel, doc): self.rel, self.doc = rel, doc


def convert(page, prepared, links, known, widgets, public):
    """The cells of a page: what nbdev prepared, with the code that it exports put back, since that is what a lesson
    teaches."""
    ready = {c.get('id'): c for c in prepared['cells']}
    out, found, exercise = [], answers(page, known) if page.lesson else {}, None
    other = known.get(page.answers)
    at = _At(other.rel, page.doc) if other else None
    for i, (h2, c) in enumerate(sections(page.nb['cells'])):
        ds, s = directives(c), text(c)
        if 'hide' in ds or any(d.startswith('default_exp') for d in ds) or 'include: false' in ds: continue
        if c['cell_type'] == 'code' and any(re.match(r'exports?\b', d) for d in ds):
            names = [n for n in defined(s) if n.split('.')[0] in public]
            if not names and all(re.match(r'from |import |_all_ = |#|$', l.strip()) for l in bare(s).splitlines()):
                continue
            if names: out.append(anchors(names))
            out.append(code_cell(c, page, links, exported=True))
            continue
        if c['cell_type'] == 'markdown':
            s = text(ready.get(c.get('id'), c)) if i else s
            if i == 0: s = re.sub(r'^> ', '{.subtitle}\n> ', s, count=1, flags=re.M)
            if h2 == 'Exercises' and (m := re.search(r'^\*\*(\d+)\.?\*\*', s)): exercise = m[1]
            out.append(markdown(callouts(links(s, page))))
            for w in re.findall(r'<!--\s*site:\s*(\w+)\s*-->', s):
                if w in widgets: out.append(markdown(f'```{{raw}} html\n{widgets[w](page)}\n```'))
            if h2 == 'Questionnaire' and s.lstrip().startswith('1.') and 'Questionnaire' in found:
                out.append(folded('Answers to the questionnaire', links(found['Questionnaire'], at)))
            continue
        out.append(code_cell(ready.get(c.get('id'), c) | {'outputs': c.get('outputs', [])}, page, links))
        if exercise and 'eval: false' in ds and exercise in found:
            out.append(folded(f'An answer to exercise {exercise}', answer_text(found.pop(exercise), page, links, at)))
    return out


def notebook(cells, **meta):
    return dict(cells=cells,
        metadata=meta | dict(kernelspec=dict(name='python3', display_name='python3', language='python'),
                             language_info=dict(name='python', pygments_lexer='ipython3')),
        nbformat=4, nbformat_minor=4)


def write(path, content):
    "Write what differs from what is there, so that Sphinx builds again only what has changed."
    new = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding='utf-8') != new:
        path.write_text(new, encoding='utf-8', newline='\n')
    return path
