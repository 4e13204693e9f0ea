"The page on how the library is built: its modules in order, what each imports, and where something new belongs."
import ast
from pathlib import Path

import adapter as ad

opening = '''# Architecture

{.subtitle}
> Which module holds what, what may import what, and where something new belongs.

The library is a chain. Each module imports only modules above it in the table, so you can read them from top to \
bottom, and a change never reaches upwards. The order is written down once, as `module_order` in the notebook of \
`lesson8nlp.all`; a test compares it with the imports.

Data takes the same way: a text becomes tokens, tokens become ids, ids become batches, a model turns batches into \
predictions, a learner trains it, and a trained model writes or classifies texts.
'''

adding = '''## Where do I add ...

Every module is exported from a notebook. Change the notebook, run `make export`, then `make test NB=02_tokenizer` \
with the name of your notebook.

| you want to add | where | what to keep in mind |
|---|---|---|
| a rule or a tokenizer | [rules](api/rules.ipynb) or [tokenizer](api/tokenizer.ipynb) | a rule is a function from \
text to text; a tokenizer takes many texts and gives an iterator of lists of tokens. The fast tokenizer has to give \
the same tokens |
| a kind of file | [texts](api/texts.ipynb) | there is one reader for all files and tables |
| a model | [models](api/models.ipynb) or [beyond](api/beyond.ipynb) | networks alone: data and recipes are in \
[experiments](api/experiments.ipynb). `register_architecture` lets a `TextModel` save it |
| a metric or a callback | [learner](api/learner.ipynb) | beside `TokenAccuracy`; it sees logits that are not computed \
until you ask for them |
| something that is written to disk | [store](api/store.ipynb) | files appear whole or not at all, with checksums and \
without a pickle |
| a lesson | `nbs/`, answers in `nbs/answers/` | it ends with a questionnaire and three exercises that check \
themselves; its module goes into `module_order` |
| a measurement | `benchmarks/` | it calls the library, and writes rows to `benchmarks/results/` |
'''


def imports(path):
    "The modules of the package that the file of a module imports, in the order of the imports."
    found = []
    for n in ast.walk(ast.parse(Path(path).read_text(encoding='utf-8'))):
        if isinstance(n, ast.ImportFrom) and n.module and (n.level or n.module.startswith('lesson8nlp.')):
            found.append(n.module.removeprefix('lesson8nlp.'))
    return list(dict.fromkeys(found))


def page(modules, order):
    "Cells of the page; `modules` are the pages that export a module, in the order of `order`."
    folder = ad.root/'lesson8nlp'
    link = lambda m: f'[{m}](api/{m}.ipynb)'
    known = {p.module: p for p in modules}
    rows = []
    for m, p in known.items():
        needs = sorted({o for o in imports(folder/f'{m}.py') if o in known}, key=order.index)
        said = 'all of them' if m == 'all' else ', '.join(map(link, needs)) or 'nothing'
        rows.append(f'| {link(m)} | {p.subtitle} | {said} | [{p.title}]({p.doc}.ipynb) |')
    table = '| module | what it holds | imports | built in |\n|---|---|---|---|\n' + '\n'.join(rows)
    return [ad.markdown(o) for o in (opening, table, adding)]
