"Sphinx's configuration: the theme, the markdown of the notebooks, and what extras.py adds to each page."
import re, tomllib
from pathlib import Path

here = Path(__file__).resolve().parent
toml = tomllib.loads((here.parent/'pyproject.toml').read_text(encoding='utf-8'))['project']

project, author, html_title = toml['name'], toml['authors'][0]['name'], toml['name']
project_copyright = author
language = 'en'
extensions = ['myst_nb', 'sphinx.ext.mathjax', 'extras']
exclude_patterns = ['static-made', 'pages.json']

nb_execution_mode = 'off'
nb_merge_streams = True
nb_mime_priority_overrides = [('html', 'text/html', 5), ('html', 'text/markdown', 3)]
nb_render_markdown_format = 'myst'
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'attrs_inline', 'attrs_block', 'tasklist',
    'html_image', 'deflist']
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_update_mathjax = False

html_theme = 'sphinx_book_theme'
html_static_path = [str(here/'static'), str(here.parent/'build'/'docs-source'/'static-made')]
templates_path = [str(here/'templates')]
html_baseurl = toml['urls']['Documentation']
html_logo = html_favicon = str(here/'static'/'mark.svg')
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_css_files, html_js_files = ['site.css'], [('site.js', {'defer': 'defer'})]
html_theme_options = dict(use_download_button=False, use_fullscreen_button=False, show_navbar_depth=1, show_toc_level=2,
    home_page_in_toc=True, logo=dict(text=project, alt_text=f'{project}: to the front page'),
    pygments_light_style='a11y-high-contrast-light', pygments_dark_style='a11y-high-contrast-dark',
    footer_content_items=['colophon.html'], toc_title='On this page', search_bar_text='Search names, headings, text',
    back_to_top_button=False)
html_context = dict(default_mode='auto')
html_last_updated_fmt = None
html_domain_indices = False
toc_object_entries = True
toc_object_entries_show_parents = 'hide'
add_module_names = False
python_display_short_literal_types = True

# Linkcheck misses raw HTML: 181 links in the lines of tools (extras.py), those to Colab and to the page's notebook on
# GitHub. It need not ask GitHub for 264 lines of our modules either: test_docs.py checks that files of the repository
# that a page links to exist. A site that refuses robots (403) counts as broken: if it is there, add it here.
linkcheck_ignore = [re.escape(toml['urls']['Repository']) + r'/blob/main/lesson8nlp/.+#L\d+$']
