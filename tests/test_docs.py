"The site: built with warnings as errors, its links followed, and opened in a real browser from its files."
import ast, contextlib, functools, gzip, html.parser, http.server, importlib.util, json, os, random, re, shutil, \
    socket, subprocess, sys, threading, time, tomllib, urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import adapter
import first_cell
import pytest

root = Path(__file__).resolve().parent.parent
site, screens = root/'build'/'docs', root/'build'/'screens'
urls = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']
page_of = {p.module: p.doc for p in adapter.pages() if p.module}  # the page whose notebook exports a module
# the page that a widget stands on
home = {w: p.doc for p in adapter.pages() for c in p.nb['cells']
        for w in re.findall(r'<!--\s*site:\s*(\w+)\s*-->', adapter.text(c))}
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb')
                   if not any(o.startswith('.') for o in p.relative_to(root).parts))


def test_pages_can_be_prepared_by_nbdev():
    "nbdev runs cells that hold an import when it prepares the page of a module: they may hold nothing else."
    wrong = []
    for p in notebooks:
        cells = [''.join(c['source']) for c in json.loads(p.read_text(encoding='utf-8'))['cells']
                 if c['cell_type'] == 'code' and c['id'] != first_cell.cell_id]
        if not any(re.search(r'^#\|\s*default_exp', s, re.M) for s in cells): continue
        for s in cells:
            if re.search(r'^#\|\s*(export|eval: false)', s, re.M) or 'import' not in s: continue
            tree = ast.parse(re.sub(r'^[%!].*$', '', s, flags=re.M))
            imports = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body]
            if not all(imports) and any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(tree)):
                wrong.append(f'{p.name}: {s[:120]!r}')
    assert not wrong, 'give imports a cell of their own:\n' + '\n'.join(wrong)


@pytest.mark.parametrize('p', notebooks, ids=lambda p: p.stem)
def test_figures_are_described_and_headings_in_order(p):
    level = 0
    for c in json.loads(p.read_text(encoding='utf-8'))['cells']:
        s = ''.join(c['source'])
        if c['cell_type'] == 'markdown':
            for m in re.finditer(r'^(#+) ', re.sub(r'```.*?```', '', s, flags=re.S), re.M):
                assert len(m[1]) <= level + 1, (f'{p.name}: a heading of level {len(m[1])} '
                                                f'after one of level {level}: {s[:80]!r}')
                level = len(m[1])
            assert not re.search(r'!\[\s*\]\(', s), f'{p.name}: a picture without a description'
        elif any('image/png' in o.get('data', {}) or 'image/svg+xml' in o.get('data', {}) for o in c['outputs']):
            assert re.search(r'^#\|\s*(fig-alt: .{20}|hide|include: false)', s, re.M), (
                f'{p.name}: a figure without fig-alt:\n{s[:200]}')


def test_results_page_shows_the_measured_rows():
    said = (root/'nbs'/'results.ipynb').read_text(encoding='utf-8')
    for f in sorted((root/'benchmarks'/'results').glob('*.json')):
        # the first is a table of times, the second has a page of its own
        if f.stem in ('lessons', 'text_to_batches'): continue
        rows = json.loads(f.read_text(encoding='utf-8'))
        # a tiny model on a CPU, which only tries whether every step works
        if all(r.get('kind') == 'cpu' for r in rows): continue
        for r in rows:
            assert r['what'] in said, (f'{f.name}: {r["what"]} is not on the page of results: '
                                       'run tools/run_notebooks.py --save nbs/results.ipynb')


@pytest.fixture(scope='session')
def built():
    "The site in build/docs, made by the command that `make docs` runs."
    if os.environ.get('DOCS_BUILT'): return site  # as it is, to try one test
    begun = time.time()
    r = subprocess.run([sys.executable, root/'docs'/'build.py'], cwd=root, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, (r.stdout + r.stderr)[-6000:]
    print(f'built in {time.time() - begun:.0f} s')
    return site


class Html(html.parser.HTMLParser):
    "What a page links to, what can be linked to in it, and what it loads."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.code, self.inside, self.text = set(), [], [], [], [], ''
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'a' and a.get('href') is not None: self.links.append(a['href'])
        if tag in ('img', 'script', 'iframe', 'source') and a.get('src'): self.loads.append(a['src'])
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon', 'preload', 'shortcut icon'):
            self.loads.append(a['href'])
        if tag in ('a', 'code', 'pre', 'dt', 'h1'): self.inside.append(tag)
        if tag == 'code': self.text = ''
    def handle_endtag(self, tag):
        if tag == 'code' and 'pre' not in self.inside:
            self.code.append((self.text, 'a' in self.inside or 'dt' in self.inside))
        if tag in self.inside: del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag)]
    def handle_data(self, d):
        if 'code' in self.inside: self.text += d


@pytest.fixture(scope='session')
def pages(built):
    return {p: Html(p.read_text(encoding='utf-8')) for p in built.rglob('*.html') if '_static' not in p.parts}


def test_every_notebook_has_a_page(pages):
    names = {p.relative_to(site).as_posix() for p in pages}
    for p in adapter.pages():
        assert f'{p.doc}.html' in names and (site/'notebooks'/p.rel).read_bytes() == p.path.read_bytes()
        if p.module: assert f'api/{p.module}.html' in names


def test_internal_links_and_anchors(pages):
    broken = []
    for p, h in pages.items():
        for to in h.links + h.loads:
            u = urlsplit(to)
            if u.scheme or u.netloc or to.startswith(('#" ', 'javascript:')): continue
            q = (p.parent/unquote(u.path)).resolve() if u.path else p
            if q.is_dir(): q = q/'index.html'
            if not q.exists(): broken.append(f'{p.relative_to(site)} -> {to}')
            elif u.fragment and q.suffix == '.html' and unquote(u.fragment) not in pages[q].ids:
                broken.append(f'{p.relative_to(site)} -> {to} (no such anchor)')
    assert not broken, '\n'.join(broken[:40])


def external(pages):
    return sorted({to for h in pages.values() for to in h.links
                   if urlsplit(to).scheme not in ('', 'mailto', 'javascript')})


def test_external_links_are_well_formed(pages):
    for to in external(pages):
        u = urlsplit(to)
        assert (u.scheme in ('https', 'http') and re.fullmatch(r'[\w.-]+\.[a-z]{2,}', u.hostname or '')
                and ' ' not in to), to
    for p in (page_of['core'], 'howto/your_own_texts'):
        assert any(o.startswith('https://colab.research.google.com/github/') for o in pages[site/f'{p}.html'].links)


def test_links_into_the_repository_lead_to_its_files(pages):
    at = f'{urls["Repository"]}/blob/main/'
    files = {unquote(urlsplit(o.removeprefix(at)).path) for o in external(pages) if o.startswith(at)}
    assert len(files) > 100 and not [f for f in files if not (root/f).is_file()]


def test_linkcheck_sees_every_link_but_those_of_the_tools(pages, tmp_path):
    "`make docs-links` asks for them. Here all are ignored, so nothing is asked."
    code = 'import build, sys; build.follow_links(sys.argv[1], "-D", "linkcheck_ignore=.")'
    subprocess.run([sys.executable, '-c', code, tmp_path], cwd=root/'docs', check=True, timeout=300)
    lines = (tmp_path/'output.json').read_text(encoding='utf-8').splitlines()
    tools = {o for p in pages for bar in re.findall(r'<p class="page-tools">.*?</p>', p.read_text(encoding='utf-8'))
             for o in Html(bar).links}
    assert {*external(pages)} - {json.loads(l)['uri'] for l in lines} <= tools


def test_preview_shows_the_site_and_reloads_it(built):
    "`make docs-serve`, after the site is built."
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    p = subprocess.Popen([sys.executable, '-c', f'import build; build.serve({port}, False)'], cwd=root/'docs',
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                said = urllib.request.urlopen(f'http://127.0.0.1:{port}/exercises.html', timeout=10).read().decode()
                break
            assert p.poll() is None, p.stdout.read().decode()
            time.sleep(0.5)
        assert 'websocket-reload' in said and 'websocket-reload' not in (site/'exercises.html').read_text('utf-8')
    finally: p.terminate(); p.communicate()


def test_nothing_is_loaded_from_elsewhere(pages):
    for p, h in pages.items():
        for o in h.loads: assert not urlsplit(o).netloc, f'{p.name} loads {o}'


def test_every_name_of_the_package_is_a_link(pages):
    names = json.loads((root/'build'/'docs-source'/'pages.json').read_text(encoding='utf-8'))['names']
    seen = 0
    for p, h in pages.items():
        if p.stem in ('genindex', 'search'): continue
        for text, linked in h.code:
            if re.sub(r'\(\)$', '', text) in names and not linked: pytest.fail(f'{p.name}: `{text}` is no link')
            seen += linked
    assert seen > 300


def test_reference_says_what_there_is(pages):
    store = (site/'api'/'store.html').read_text(encoding='utf-8')
    for s in ('atomic_file', 'the file to write: it appears when the block has ended', '#L', 'in the lesson', 'Example',
              'note.txt'):
        assert s in store, s
    assert {'fingerprint', 'lesson8nlp.store.fingerprint'} <= pages[site/'api'/'store.html'].ids
    assert 'fingerprint' in pages[site/f'{page_of["store"]}.html'].ids


def test_side_bar_shows_the_parts(built):
    "Course, internals, how-to pages, results and library; the library in the order of `module_order`."
    from lesson8nlp.all import module_order
    front = (site/'index.html').read_text(encoding='utf-8')
    bar = re.split(r'<p[^>]*caption[^>]*>\s*<span class="caption-text">(.+?)</span>',
                   front[front.index('bd-sidebar-primary'):front.index('<main')])
    parts = {k: re.findall(r'href="([\w/]+)\.html"', v) for k, v in zip(bar[1::2], bar[2::2])}
    course = [f'Part {i}. {t}' for i, t in enumerate(adapter.parts())]
    assert [k for k in parts if k not in course] == ['Practice', 'Internals', 'How to', 'Results', 'Library']
    assert [d for k in course for d in parts.get(k, [])] == [p.doc for p in adapter.pages() if p.group == 'course']
    waiting = [p.doc for p in adapter.pages() if p.unmeasured]
    assert parts['Results'][0] == 'results' and not {*waiting} & {d for o in parts.values() for d in o}
    assert parts['Internals'] == [p.doc for p in adapter.pages() if p.rel.startswith('internals/')]
    assert parts['Library'][:2] == ['api/index', 'architecture']
    assert parts['Library'][2:] == [f'api/{m}' for m in module_order if m in page_of]


def test_architecture_page_names_what_each_module_imports(pages):
    from lesson8nlp.all import module_order
    table = (site/'architecture.html').read_text(encoding='utf-8').split('</table>')[0]
    rows = dict(re.findall(r'<tr[^>]*><td>.*?href="api/(\w+)\.html".*?</td>\s*<td>.*?</td>\s*<td>(.*?)</td>', table,
                           re.S))
    assert [m for m in module_order if m in page_of] == list(rows)
    for m, needs in (('classifier', ('awdlstm', 'learner')), ('cli', ('texts', 'ulmfit'))):
        assert {f'api/{o}.html' for o in needs} <= set(re.findall(r'href="([^"#]+)"', rows[m]))
    assert 'nothing' in rows['store'] and 'all of them' in rows['all']


# in a browser --------------------------------------------------------------------------------------------------------
chromes = [*map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')),
           '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
           r'C:\Program Files\Google\Chrome\Application\chrome.exe']
chromium = next((c for c in chromes if c and Path(c).exists()), None)
missing = [f'{what} is not installed, and opens the site in a browser ({how})' for what, how, there in (
    ('Chromium', 'Debian: apt-get install chromium', chromium),
    ('playwright', 'pip install playwright', importlib.util.find_spec('playwright')),
    ('axe-playwright-python', 'pip install axe-playwright-python', importlib.util.find_spec('axe_playwright_python')))
    if not there]
# with CI=true it fails
browser_test = pytest.mark.skipif(bool(missing) and not os.environ.get('CI'), reason='; '.join(missing))


@pytest.fixture(scope='session')
def browser(built):
    assert not missing, missing
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        yield b
        b.close()


@pytest.fixture(scope='session')
def server(built):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown()


class Opened:
    "A page in the browser, with what it said and what it asked for."
    def __init__(self, browser, width=1280, height=900, **kw):
        self.context = browser.new_context(viewport=dict(width=width, height=height), **kw)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.set_default_timeout(30_000)
        self.page.on('console', lambda m: m.type in ('error', 'warning') and self.said.append(m.text))
        self.page.on('pageerror', lambda e: self.said.append(str(e)))
        # aborted: the next page was opened meanwhile
        self.page.on('requestfailed',
                     lambda r: 'ERR_ABORTED' in (r.failure or '') or self.said.append(f'failed: {r.url}'))
        self.page.on('request', lambda r: self.asked.append(r.url))
    def go(self, url):
        self.said.clear(); self.asked.clear()
        self.page.goto(url)
        return self.page


@contextlib.contextmanager
def opened(browser, **kw):
    o = Opened(browser, **kw)
    try: yield o
    finally: o.context.close()


def all_pages():
    return [p.relative_to(site).as_posix() for p in sorted(site.rglob('*.html'))
            if p.stem not in ('genindex', 'search') and '_static' not in p.parts]


def file(name): return (site/name).as_uri()


@functools.cache
def weight(path):
    "Bytes that travel: a web server, GitHub's too, compresses text."
    if not path.is_file(): return 0
    b = path.read_bytes()
    return len(gzip.compress(b, 6)) if path.suffix in ('.html', '.js', '.css', '.svg') else len(b)


@browser_test
def test_every_page_loads_quietly_lightly_and_fits_a_phone(browser):
    """From the files: no console errors, no other host, under 1.5 MB, shown within a second, nothing wider than 390
    pixels."""
    wrong = []
    with opened(browser, width=390, height=844) as o:
        for name in all_pages():
            page = o.go(file(name))
            page.wait_for_load_state('load')
            wide = page.evaluate('''() => { const w = document.documentElement.clientWidth; '''
                '''if (document.documentElement.scrollWidth <= w) return '';
                const inScroll = e => { for (let p = e.parentElement; p; p = p.parentElement) '''
                '''if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX) && '''
                '''p !== document.body && p !== document.documentElement) return true; };
                return [...document.querySelectorAll('.bd-article *')]'''
                '''.filter(e => e.getBoundingClientRect().right > w + 1 && !inScroll(e)).slice(0, 3)'''
                '''.map(e => e.outerHTML.slice(0, 120)).join(' | ') || 'the page'; }''')
            if wide: wrong.append(f'{name} is wider than a phone: {wide}')
            wrong += [f'{name} says: {s}' for s in o.said]
            asked = {u.split('?')[0].split('#')[0] for u in o.asked}
            wrong += [f'{name} asks for {u}' for u in asked if not u.startswith(('file:', 'data:', 'blob:'))]
            sent = sum(weight(Path(unquote(urlsplit(u).path))) for u in asked if u.startswith('file:'))
            if sent > 1_500_000: wrong.append(f'{name} weighs {sent:,} bytes')
            ms = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
            # five times the second, since the test machine may be busy
            if ms > 5000: wrong.append(f'{name} shows its text after {ms:.0f} ms')
    assert not wrong, '\n'.join(wrong[:30])


def rare_word(heading):
    "A long word that stands on one page only, in a heading or in prose, and that page."
    prose = {p.doc: ' '.join(adapter.text(c) for c in p.nb['cells'] if c['cell_type'] == 'markdown')
             for p in adapter.pages()}
    for doc, here in prose.items():
        words = re.findall(r'(?<![\w`/.])[a-z]{6,}(?![\w`/.])',
                           ' '.join(re.findall(r'^#+ (.+)', here, re.M)).lower() if heading else here)
        others = ' '.join(o for d, o in prose.items() if d != doc).lower()
        for w in words:
            if w[:6] not in others: return w, doc  # six letters: the search looks for stems
    raise AssertionError('no word stands on one page only')


@browser_test
@pytest.mark.parametrize('way', ('file', 'http'))
def test_search_finds(browser, server, way):
    "A function, a heading, and words of the prose."
    base = site.as_uri() if way == 'file' else server
    with opened(browser) as o:
        for query, page in (('fingerprint', 'api/store'), rare_word(heading=True), rare_word(heading=False)):
            shown = o.go(f'{base}/search.html?q={query}')
            shown.wait_for_selector('#search-results li a')
            found = shown.eval_on_selector_all('#search-results li a', 'a => a.map(e => e.getAttribute("href"))')
            assert any(f'{page}.html' in h for h in found), (query, found[:8])
            shown.wait_for_timeout(200)
            assert not o.said, o.said


@browser_test
@pytest.mark.parametrize('way', ('file', 'http'))
def test_theme_is_switched_and_kept(browser, server, way):
    base = site.as_uri() if way == 'file' else server
    with opened(browser, color_scheme='light') as o:
        page = o.go(f'{base}/index.html')
        theme = lambda: page.evaluate('document.documentElement.dataset.theme')
        back = lambda: page.evaluate('getComputedStyle(document.body).backgroundColor')
        light = back()
        page.locator('.theme-switch-button:visible').first.click()
        page.locator('.theme-change-button[data-mode=dark]:visible').first.click()
        assert theme() == 'dark' and back() != light
        o.go(f'{base}/{page_of["core"]}.html')
        assert theme() == 'dark'


@browser_test
def test_math_is_drawn(browser):
    with opened(browser) as o:
        page = o.go(file(f"{home['state']}.html"))
        page.wait_for_selector('mjx-container')
        page.wait_for_timeout(500)
        n = page.evaluate("() => document.querySelectorAll('.math').length")
        drawn = page.evaluate("() => [...document.querySelectorAll('.math mjx-container')]"
                              ".filter(e => e.getBoundingClientRect().width > 2).length")
        assert n >= 10 and drawn >= n, (n, drawn)
        assert not page.evaluate("() => document.querySelectorAll('mjx-merror').length") and not o.said
        assert page.evaluate("() => document.querySelectorAll('mjx-assistive-mml').length") >= n
        o.go(file(f'{page_of["core"]}.html'))
        assert not any('mathjax' in u for u in o.asked), 'a page without formulas does not load MathJax'


def widget(page, name):
    box = page.locator(f'[data-widget="{name}"]').first
    page.wait_for_selector(f'[data-widget="{name}"][data-ready]')
    box.scroll_into_view_if_needed()
    return box


def strange_texts(n=400):
    "Reviews, and texts made of what rules and tokenizers trip over."
    from lesson8nlp.data import get_imdb, read_text, sample_reviews, text_files
    with contextlib.redirect_stdout(None): real = get_imdb(download=False)
    rng = random.Random(0)
    bits = ['great', 'GREAT', 'Great', 'a', 'I', "don't", "it's", "It's", 'U.K.', 'e.g.', 'Dr.', 'p.m.', ':-)', ':)',
        '(:', '<3', 'xD', '8-D', '...', '…', '!!!', '??', '--', '—', 'well-known', 'and/or', '#1', '\\', '\\n',
        '<br />', '<br /><br />', '&amp;', '&lt;b&gt;', '&nbsp', '&notit;', '&#39;', '&#x41;', '&#128;', '&#0;',
        '&#13;', '#39;', 'amp;', 'quot;', ' @-@ ', ' @.@ ', '<unk>', '$20', '20%', '10km', '3.5GB', '1,000.50',
        '1990s', '£5', 'http://www.example.org/a?b=c#d', 'www.example.org.', 'me@example.org', 'C++', 'rock\'n\'roll',
        "'quoted'", '"double"', '“curly”', "l'été", 'ÉCOLE', 'naïve', 'straße', 'İstanbul', 'ΣΊΣΥΦΟΣ', '東京',
        'emoji😀😀😀', '👍🏽', 'sooooo', 'no no no no', 'No no no', 'ha ha ha ha!', 'the the the', '\t', '\n', '\n\n',
        '  ', '   ', '\u00a0', '\u2003', '[sic]', '(see', 'below).', 'can’t', "y'all're", 'gonna', 'cannot', "'em",
        'a.b', 'a.B', 'end.Start', 'x=y', 'a+b', '2+2', 'J.R.R.', 'Mr.Smith', '°C.', 'AB.', 'ABC-DEF', 'rep', 'xxunk',
        'XXMAJ', '_under_score_', '1st', '2nd.', 'a-b-c', '1-2', '1*2', "o'clock", 'D:<', '¯\\(ツ)/¯', ';-)', '^_^']
    made = [rng.choice(['', ' ']).join(rng.choice(bits) + rng.choice(['', ' ', ' ', ', ', '. '])
                                       for _ in range(rng.randint(1, 14))) for _ in range(n)]
    reviews = ([read_text(p)[:600] for p in text_files(real, folders=['train'], n=100)]
               + [read_text(p) for p in text_files(sample_reviews(), n=30)])
    return ['', ' ', 'a', *bits, *made, *reviews]


@browser_test
def test_rules_and_tokenizer_in_the_browser_are_those_of_python(browser):
    from lesson8nlp.tokenizer import Tokenizer, text_rules
    texts, tok = strange_texts(), Tokenizer()
    steps = []
    for t in texts:
        s = []
        for r in text_rules: t = r(t); s.append(t)
        steps.append(s)
    with opened(browser) as o:
        page = o.go(file(f"{home['rules']}.html"))
        widget(page, 'rules')
        got = page.evaluate('''texts => texts.map(t => { const s = []; let u = t; '''
            '''for (const f of Object.values(lesson8nlp.rules)) { u = f(u); s.push(u); } '''
            '''return [s, lesson8nlp.tokenize(t)]; })''', texts)
        wrong = [(t, r.__name__, a, b) for t, s, (g, _) in zip(texts, steps, got)
                 for r, a, b in zip(text_rules, s, g) if a != b]
        assert not wrong, f'{len(wrong)} differ: {wrong[:3]}'
        wrong = [(t, a, b) for t, a, (_, b) in zip(texts, tok.pipe(texts), got) if list(a) != b]
        assert not wrong, f'{len(wrong)} of {len(texts)} texts are cut in another way: {wrong[:3]}'
        assert len(texts) > 500 and not o.said
        assert page.evaluate('Object.keys(lesson8nlp.rules)') == [r.__name__ for r in text_rules]


@browser_test
def test_rules_widget_answers(browser):
    with opened(browser) as o:
        box = widget(o.go(file(f"{home['rules']}.html")), 'rules')
        box.locator('input').fill('WOW sooo GOOD')
        assert box.locator('ol li').count() == 8 and 'xxrep 3 o' in box.inner_text()
        assert box.locator('ul.w-tokens li').all_inner_texts() == 'xxbos xxup wow s xxrep 3 o xxup good'.split()
        box.locator('button').nth(2).click()
        assert 'https://docs.python.org/3/' in box.locator('input').input_value()


@browser_test
def test_batches_widget_is_the_loader(browser):
    from lesson8nlp.dataloader import LMDataLoader
    with opened(browser) as o:
        page = o.go(file(f"{home['batches']}.html"))
        box = widget(page, 'batches')
        for total, bs, sl in ((84, 6, 5), (31, 3, 4), (200, 8, 9), (97, 10, 15), (50, 1, 7), (84, 10, 1)):
            dl = LMDataLoader(range(total), bs=bs, seq_len=sl)
            got = page.evaluate('([n, bs, sl]) => { const s = [...Array(n).keys()]; '
                'return [...Array(lesson8nlp.plan(n, bs, sl).n).keys()].map(k => lesson8nlp.batch(s, bs, sl, k)) }',
                [total, bs, sl])
            want = [dict(x=x.tolist(), y=y.tolist()) for x, y in dl]
            assert got == want, (total, bs, sl)
        for label, v in (('batch size (bs)', '3'), ('sequence length (seq_len)', '9')): box.get_by_label(label).fill(v)
        assert '3 rows of 27 tokens; 3 batches, the last one 9 wide' in box.inner_text()
        assert box.locator('table').first.locator('tr').count() == 3 and box.locator('td.now').count() == 27


@browser_test
def test_state_widget_is_the_model(browser):
    import numpy as np, torch, widgets
    from lesson8nlp.models import LMModel6
    d, toks = widgets.state_model(), 'nine hundred twenty one . nine hundred twenty two . nine hundred'.split()
    import base64
    model, flat, at = (
        LMModel6(len(d['vocab']), d['n_hidden'], d['n_layers']).eval(),
        torch.tensor(np.frombuffer(base64.b64decode(d['weights']), dtype=np.float16).astype(np.float32)), 0)
    for n, p in model.named_parameters():
        p.data = flat[at:at+p.numel()].view(p.shape); at += p.numel()
    assert at == len(flat)
    with torch.no_grad(): want = model(torch.tensor([[d['vocab'].index(t) for t in toks]])).softmax(-1)[0].numpy()
    np.testing.assert_allclose(widgets.read_state(toks, d)[1], want, atol=1e-5)
    with opened(browser) as o:
        page = o.go(file(f"{home['state']}.html"))
        box = widget(page, 'state')
        got = page.evaluate('t => lesson8nlp.readState(t).map(s => s.p)', toks)
        np.testing.assert_allclose(got, want, atol=1e-5)
        box.locator('input').fill('one two three. zebra')
        assert (box.locator('svg text').count() == 4 and 'zebra' in box.inner_text()
                and 'the model expects' in box.inner_text())
        assert box.locator('svg rect').count() == 4*d['n_hidden']


@browser_test
def test_review_widget_is_the_small_model(browser):
    import numpy as np, widgets
    from small_model import Reader, tokens
    reader, texts = Reader(), strange_texts()
    with opened(browser) as o:
        page = o.go(file(f"{home['review']}.html"))
        box = widget(page, 'review')
        got = page.evaluate('texts => texts.map('
                            't => [lesson8nlp.pieces(t).map(o => o.token), lesson8nlp.readReview(t)])', texts)
        for t, (toks, zs) in zip(texts, got, strict=True):
            assert toks == tokens(t), t
            np.testing.assert_allclose(zs, reader(t), atol=1e-3, err_msg=t)
        say = lambda z: f'{100/(1 + np.exp(-z)):.0f} % positive'
        area, zs = box.locator('textarea'), reader('A wonderful film. zebra')
        area.fill('A wonderful film. zebra')
        assert (say(zs[-1]) in box.inner_text() and 'skipped: zebra' in box.inner_text()
                and box.locator('.w-read').inner_text() == 'A wonderful film. zebra')
        assert ('w-pos' in box.locator('.w-read span').nth(1).get_attribute('class')
                and box.locator('polyline').get_attribute('points').count(',') == 5)
        box.get_by_label('after word').focus()
        page.keyboard.press('Home'); page.keyboard.press('ArrowRight')
        assert say(zs[1]) in box.inner_text() and 'after “A”' in box.inner_text()
        box.get_by_role('button', name='A bad one').click()
        assert area.input_value() == widgets.more_films[1][1] and 'Most for negative' in box.inner_text()
        for t in ('', '<img src=x onerror=alert(1)>', 'good '*3000): area.fill(t)
        assert ('It reads the first 1000 words' in box.inner_text()
                and box.locator('.w-read span').count() == 1000 and not o.said)


@browser_test
def test_ladder_widget_answers(browser):
    rows = json.loads((root/'benchmarks'/'results'/'ladder.json').read_text(encoding='utf-8'))
    with opened(browser) as o:
        box = widget(o.go(file('results.html')), 'ladder')
        bars = box.locator('.w-bar')
        assert bars.count() == 7
        bars.nth(6).hover()
        assert f'{rows[6]["ours"]:.1f} % ± {rows[6]["sd"]:.1f}' in box.inner_text()
        box.get_by_role('button', name='loss').click()
        assert ([float(t) for t in box.locator('.w-value').all_inner_texts()]
                == [round(r['valid_loss'], 2) for r in rows])
        bars.nth(0).focus()
        assert 'LMModel1: accuracy' in box.inner_text()


@browser_test
def test_widgets_are_pictures_without_javascript(browser):
    with opened(browser, java_script_enabled=False) as o:
        for name, w, what in ((home['rules'], 'rules', 'xxwrep 3 really'), (home['batches'], 'batches', 'targets y'),
                              ('results', 'ladder', '87'), (home['state'], 'state', 'nine'),
                              (home['review'], 'review', 'With JavaScript you can type')):
            box = o.go(file(f'{name}.html')).locator(f'[data-widget="{w}"]').first
            assert what in box.text_content() and box.bounding_box()['height'] > 100


one_of_each = ['index.html', f'{home["review"]}.html', f'{page_of["core"]}.html', f'{page_of["store"]}.html',
               'results.html', 'benchmarks.html', 'api/core.html', 'howto/your_own_texts.html', 'exercises.html',
               'glossary.html', 'answers/answers_core.html']


def faults(browser, scheme, names):
    spec = importlib.util.find_spec('axe_playwright_python')
    axe = (Path(spec.origin).parent/'axe.min.js').read_text(encoding='utf-8')
    wrong = []
    with opened(browser, color_scheme=scheme) as o:
        for name in names:
            page = o.go(file(name))
            page.add_style_tag(content='*{transition:none!important}')
            page.evaluate(axe)
            found = page.evaluate(
                "() => axe.run(document, {resultTypes: ['violations'], "
                "runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
                ".then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
                ".map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 160), "
                "(v.nodes[0].failureSummary || '').slice(0, 200)]))")
            wrong += [f'{scheme} {name}: {f}' for f in found]
    return wrong


@browser_test
@pytest.mark.parametrize('scheme', ('light', 'dark'))
def test_no_serious_fault_for_readers_with_other_means(browser, scheme):
    "axe-core on a page of each kind."
    wrong = faults(browser, scheme, one_of_each)
    assert not wrong, f'{len(wrong)} faults\n' + '\n'.join(wrong[:25])


@pytest.mark.slow
@browser_test
@pytest.mark.parametrize('scheme', ('light', 'dark'))
def test_no_serious_fault_on_any_page(browser, scheme):
    wrong = faults(browser, scheme, all_pages())
    assert not wrong, f'{len(wrong)} faults\n' + '\n'.join(wrong[:25])


@browser_test
def test_answers_are_hidden_until_asked_for(browser):
    with opened(browser) as o:
        page = o.go(file(f'{page_of["store"]}.html'))
        folds = page.locator('details.answer')
        # the questionnaire and three exercises
        assert folds.count() == 4 and not folds.nth(1).locator('pre').first.is_visible()
        folds.nth(1).locator('summary').focus()
        page.keyboard.press('Enter')
        assert folds.nth(1).locator('pre').first.is_visible() and 'def safe_append' in folds.nth(1).inner_text()


@browser_test
def test_keyboard_reaches_the_text(browser):
    with opened(browser) as o:
        page = o.go(file('index.html'))
        page.keyboard.press('Tab')
        assert 'skip' in page.evaluate('document.activeElement.textContent').lower()


@browser_test
def test_screenshots(browser):
    "Pictures of the main pages, to be looked at: build/screens/."
    shutil.rmtree(screens, ignore_errors=True)
    screens.mkdir(parents=True)
    shots = [('index', None), (page_of['core'], None), (home['rules'], 'rules'), (home['batches'], 'batches'),
             (home['state'], 'state'), (home['review'], 'review'), ('results', None), ('benchmarks', None),
             ('api/core', None), ('howto/your_own_texts', None), ('exercises', None)]
    for kind, kw in dict(light=dict(color_scheme='light'), dark=dict(color_scheme='dark'),
                         phone=dict(color_scheme='light', width=390, height=844), print={}).items():
        with opened(browser, **kw) as o:
            for name, w in shots if kind != 'print' else [(page_of['core'], None)]:
                page = o.go(file(f'{name}.html'))
                if w: widget(page, w)
                if kind == 'print': page.pdf(path=screens/'core-print.pdf')
                else: page.wait_for_timeout(150); page.screenshot(path=screens/f'{name.replace("/", "-")}-{kind}.png')
    assert all(p.stat().st_size > 5000 for p in screens.iterdir()) and len(list(screens.iterdir())) == 3*len(shots) + 1
