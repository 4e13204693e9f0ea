"""What every page gets on top of the theme: links for names of the package, a line of tools, scripts only where they
are used."""
import html, json, re, shutil
from importlib.metadata import files
from pathlib import Path

from docutils import nodes

parts = ['startup.js', 'core.js', 'input/tex-base.js', 'input/tex/extensions/ams.js',
    'input/tex/extensions/newcommand.js', 'output/chtml.js', 'output/chtml/fonts/tex.js', 'a11y/assistive-mml.js']
loader = {'loader': {'load': ['input/tex-base', '[tex]/ams', 'output/chtml', 'a11y/assistive-mml']},
    'tex': {'packages': {'[+]': ['ams']}, 'inlineMath': [['\\(', '\\)']]},
    'options': {'ignoreHtmlClass': 'tex2jax_ignore|mathjax_ignore|document',
                'processHtmlClass': 'tex2jax_process|mathjax_process|math|output_area'}}


def made(app): return json.loads((Path(app.srcdir)/'pages.json').read_text(encoding='utf-8'))


def link_names(app, doctree, docname):
    "Make every name in backticks that the package has a link to its entry in the reference."
    names = app.config._made['names']
    for lit in list(doctree.findall(nodes.literal)):
        name = re.sub(r'\(\)$', '', lit.astext())
        above, up = lit.parent, []
        while above is not None: up.append(above); above = above.parent
        if name not in names or any(isinstance(o, (nodes.reference, nodes.Text)) for o in up): continue
        uri = (app.builder.get_relative_uri(docname, names[name])
               + ('' if name.startswith('lesson8nlp.') else f'#{name}'))
        ref = nodes.reference('', '', internal=True, refuri=uri, classes=['name'])
        lit.replace_self(ref)
        ref += lit


def tools(app, docname):
    "Open in Colab, download, source, time to read and to run."
    p, u = app.config._made['pages'].get(docname), app.config._made['urls']
    if not p: return ''
    up = '../'*docname.count('/')
    repo, nb = u['Repository'].rstrip('/'), p['notebook']
    secs = p['seconds']
    time = f'{p["minutes"]} min to read'
    if secs: time += f' · {secs:.0f} s to run' if secs < 100 else f' · {secs/60:.0f} min to run'
    if secs and p.get('reference'): time += ' the notebook'
    hw = f' title="{html.escape("measured on " + p["hardware"])}"' if p['hardware'] else ''
    colab = repo.replace('https://github.com/', 'https://colab.research.google.com/github/')
    links = [*[(f'{colab}/blob/main/{nb}', 'Open in Colab', '')]*(nb != 'nbs/index.ipynb'), # it reads the checkout
             (f'{up}notebooks/{nb[4:]}', 'Download notebook', ' download'),
             (f'{repo}/blob/main/{nb}', 'Source on GitHub', '')]
    return ('<p class="page-tools">' + ''.join(f'<a href="{h}"{a}>{t}</a>' for h, t, a in links)
            + f'<span{hw}>{time}</span></p>')


def page(app, docname, template, context, doctree):
    body = context.get('body') or ''
    bar = tools(app, docname)
    if bar and '</h1>' in body:
        at = body.index('</h1>') + 5
        if m := re.compile(r'\s*<blockquote class="subtitle">.*?</blockquote>', re.S).match(body, at): at = m.end()
        body = context['body'] = body[:at] + bar + body[at:]
    for w in sorted(set(re.findall(r'data-widget="(\w+)"', body))):
        app.add_js_file('widgets/common.js', loading_method='defer')
        for f in (f'{w}_data.js', f'{w}.js'):
            if any((Path(d)/'widgets'/f).exists() for d in app.config.html_static_path):
                app.add_js_file(f'widgets/{f}', loading_method='defer')


def named_switches(app, _=None):
    "The theme's switches of the side bar have no name that a screen reader could say."
    if app.builder.format != 'html': return
    for f in Path(app.outdir).rglob('*.html'):
        s = f.read_text(encoding='utf-8')
        t = s.replace('<summary><span class="toctree-toggle"',
                      '<summary aria-label="the pages below"><span class="toctree-toggle"')
        if s != t: f.write_text(t, encoding='utf-8', newline='\n')


def mathjax(app, _=None):
    "MathJax from its package: the parts that draw TeX, and the fonts."
    if app.builder.format != 'html': return
    for f in files('sphinx-mathjax-offline'):
        rel = str(f).replace('\\', '/').partition('/static/mathjax/')[2]
        if rel in parts or rel.startswith('output/chtml/fonts/woff-v2/'):
            to = Path(app.outdir)/'_static'/'mathjax'/rel
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f.locate(), to)


def setup(app):
    app.config._made = made(app)
    app.config.mathjax_path, app.config.mathjax3_config = 'mathjax/startup.js', loader
    app.connect('doctree-resolved', link_names)
    app.connect('html-page-context', page)
    app.connect('build-finished', mathjax)
    app.connect('build-finished', named_switches)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
