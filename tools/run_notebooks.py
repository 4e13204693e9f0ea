"""Run notebooks from top to bottom, each in a kernel of its own, and write them with their outputs.

    python tools/run_notebooks.py                      # every lesson and every page of internals, into build/lesson/
    python tools/run_notebooks.py 02_tokenizer         # one of them: make lesson NB=02_tokenizer
    python tools/run_notebooks.py --save nbs/05*.ipynb # these, and keep the outputs in the source
"""
import argparse, base64, copy, io, os, re, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

root = Path(__file__).resolve().parent.parent
skip_flags = {'slow', 'cuda', 'notest'}  # as tst_flags in pyproject.toml
table_label = '#| label: tbl-ladder'


def lessons():
    "The notebooks of the course, then those of the internals, each in the order of their numbers."
    return [p for d in ('nbs', 'nbs/internals') for p in sorted((root/d).glob('[0-9]*.ipynb'))]


def named(path):
    "The notebook at `path`, or the one in nbs/ that has this name."
    found = [path] if path.is_file() else list((root/'nbs').rglob(f'{path.name.removesuffix(".ipynb")}.ipynb'))
    if not found: sys.exit(f'There is no notebook {path}: give the name of a file in nbs/, such as 02_tokenizer.')
    return found[0].resolve()


def directives(cell): return re.findall(r'^#\|\s*(.+?)\s*$', cell.source, re.M) if cell.cell_type == 'code' else []


def skipped(cell, flags): return any(d == 'eval: false' or d in flags for d in directives(cell))


def plain(out): return ''.join(out.get('data', {}).get('text/plain', out.get('text', '')))


def is_noise(out):
    "Progress bars and their styles: good to watch, nothing to keep."
    html = ''.join(out.get('data', {}).get('text/html', ''))
    if 'application/vnd.jupyter.widget-view+json' in out.get('data', {}): return True
    if html and (html.lstrip().startswith('<style>') and 'progress' in html and '<table' not in html): return True
    if '<progress' in html: return True
    return out.output_type == 'display_data' and set(out.data) <= {'text/html', 'text/plain'} and not html.strip()


def small_png(png):
    "The same picture with a palette of 128 colours, a third of the bytes."
    from PIL import Image
    buf = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert('RGB').quantize(128).save(buf, 'png', optimize=True)
    new = base64.b64encode(buf.getvalue()).decode()
    return min(png, new, key=len)


def tidy_table(data):
    "A training table as HTML and as plain text, in place of its source code shown three times."
    data.pop('text/markdown', None)
    rows = [re.findall(r'<t[hd]>(.*?)</t[hd]>', r)
            for r in re.findall(r'<tr[^>]*>(.*?)</tr>', ''.join(data['text/html']))]
    data['text/plain'] = '\n'.join('  '.join(f'{c:<10}' for c in r).rstrip() for r in rows)


def clean(cell):
    "Keep what a reader wants to see; return the warnings that were thrown away."
    errs = [o.text for o in cell.outputs if o.get('name') == 'stderr']
    cell.outputs = [o for o in cell.outputs if o.get('name') != 'stderr' and not is_noise(o)]
    for o in cell.outputs:
        o.pop('execution_count', None) if o.output_type != 'execute_result' else o.update(execution_count=None)
        if 'fastprogress' in ''.join(o.get('data', {}).get('text/html', '')): tidy_table(o.data)
        if 'image/png' in o.get('data', {}): o.data['image/png'] = small_png(o.data['image/png'])
        if 'metadata' in o: o['metadata'] = {}
    cell.execution_count = None
    cell.metadata.pop('execution', None)
    return ''.join(errs)


class Runner(NotebookClient):
    """Runs every cell but those that are marked as slow, as needing a GPU, or as not to be run; these keep their
    outputs."""
    def __init__(self, nb, flags, tick=None, **kw):
        super().__init__(nb, **kw)
        self.flags, self.tick, self.at = flags, tick, 0

    async def async_execute_cell(self, cell, cell_index, **kw):
        self.at = cell_index
        if skipped(cell, self.flags): return cell
        if self.tick: self.tick(cell_index + 1, len(self.nb.cells))
        return await super().async_execute_cell(cell, cell_index, **kw)


def run(path, flags=skip_flags, tick=None, cwd=None):
    "Execute the notebook at `path`; return it with its outputs, the seconds, the error if there was one, and warnings."
    nb = nbformat.read(path, as_version=4)
    env = dict(os.environ, PYTHONWARNINGS='ignore', MPLBACKEND='module://matplotlib_inline.backend_inline')
    client = Runner(nb, flags, tick, timeout=None, extra_arguments=['--log-level=ERROR'], kernel_name='python3',
                    resources={'metadata': {'path': str(cwd or path.parent)}})
    start, err = time.time(), None
    try: client.execute(env=env)
    except CellExecutionError as e: err = str(e)
    except DeadKernelError as e:
        err = (f'{e} in cell {client.at + 1} of {len(nb.cells)}, which ended the process or took more memory than '
               f'there is:\n{nb.cells[client.at].source}')
    stderr = [(i, w) for i, c in enumerate(nb.cells) if c.cell_type == 'code' and (w := clean(c))]
    nb.metadata.pop('language_info', None)
    return nb, time.time() - start, err, stderr


def write(nb, path):
    "Write a notebook as nbdev does, whole or not at all."
    from fastcore.nbio import dict2nb, write_nb
    from nbdev.clean import clean_nb
    nb = dict2nb(copy.deepcopy(nbformat.from_dict(nb)))
    for c in nb.cells:
        for o in c.get('outputs', []):
            for k in ('text', 'data'):
                if k not in o: continue
                split = lambda v: v.splitlines(True) if isinstance(v, str) and '\n' in v else v
                o[k] = ({m: split(v) if m.startswith('text') or 'svg' in m else v for m, v in o[k].items()}
                        if k == 'data' else split(o[k]))
        if isinstance(c.get('source'), str): c['source'] = c['source'].splitlines(True)
    clean_nb(nb)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f'.{path.name}.tmp')
    write_nb(nb, tmp)
    os.replace(tmp, path)


def results_table(nb):
    "The text of the table of results, from the notebook that computed it."
    for c in nb.cells:
        if table_label in c.source and c.get('outputs'): return plain(c.outputs[-1])


def in_words(seconds):
    "A time as a header says it: to ten seconds, and from two minutes on to half a minute."
    tens = max(1, round(seconds/10))
    if tens < 6: return f'{10*tens} seconds'
    if tens < 8: return 'a minute'
    if tens < 11: return 'a minute and a half'
    whole, half = divmod(round(seconds/30), 2)
    return f'{("two", "three", "four", "five")[whole-2] if whole < 6 else whole}{" and a half"*half} minutes'


def with_time(source, seconds):
    "The table at the head of a page, with this time."
    return re.sub(r'(?m)^\| Time \|.*?(; it uses no GPU)? \|$',
                  lambda m: f'| Time | {in_words(seconds)} on a CPU{m[1] or ""} |', source)


def save_times(times):
    "Keep how long each page took, for the table of lessons and its own head; one that did not run keeps its row."
    from lesson8nlp.core import load_results, result_row, save_results
    path, pages = root/'benchmarks'/'results'/'lessons.json', {p.stem: p for p in lessons()}
    rows = {r['what']: r for r in (load_results(path) if path.exists() else [])}
    rows |= {k: result_row(k, round(v, 1), 's', 'make save') for k, v in times.items()}
    save_results(path, [rows[k] for k in sorted(rows) if k in pages])
    for k in times.keys() & pages.keys():
        nb = nbformat.read(pages[k], as_version=4)
        for c in nb.cells[:3]: c.source = with_time(c.source, times[k]) if c.cell_type == 'markdown' else c.source
        write(nb, pages[k])


def main():
    ap = argparse.ArgumentParser(description='Run the lessons from top to bottom, each in a process of its own.')
    ap.add_argument('notebooks', nargs='*', type=Path,
                    help='paths, or names such as 02_tokenizer (default: every lesson in nbs/ and nbs/internals/)')
    ap.add_argument('--save', action='store_true', help='write the outputs into the notebooks themselves')
    ap.add_argument('--flags', default='', help='also run cells with these marks, e.g. "slow"')
    ap.add_argument('--times', action='store_true',
                    help='write the seconds of each into benchmarks/results/lessons.json and into its head')
    ap.add_argument('--out', type=Path, default=root/'build'/'lesson')
    args = ap.parse_args()
    files = [named(p) for p in args.notebooks] or lessons()
    flags, live = skip_flags - set(args.flags.split()), sys.stdout.isatty()
    table, failed, times, begun = None, [], {}, time.time()
    for i, p in enumerate(files, 1):
        head = f'[{i}/{len(files)}] {p.stem:<20}'
        if not live: print(head, end='', flush=True)
        tick = (lambda k, n: print(f'\r{head} cell {k} of {n} … ', end='', flush=True)) if live else None
        nb, secs, err, stderr = run(p, flags, tick)
        if not args.save or not err: write(nb, p if args.save else args.out/p.name)
        print(f'{chr(13) + head if live else ""} {"FAILED after" if err else "ok"} {secs:6.1f} s'
              f'{" "*8 if live else ""}', flush=True)
        if args.save:
            for k, w in stderr: print(f'    stderr of cell {k}, not kept: {w.strip()[:300]}')
        if err: failed.append(p.name); print(f'\n{err}\n')
        else: times[p.stem] = secs
        table = results_table(nb) or table
    print(f'{len(files) - len(failed)} of {len(files)} notebooks ran in {time.time() - begun:.0f} s'
          + ('' if args.save else '; with their outputs they are in '
             f'{args.out.relative_to(Path.cwd()) if args.out.is_relative_to(Path.cwd()) else args.out}/'))
    if args.times: save_times(times)
    if failed: sys.exit(f'Failed: {", ".join(failed)}')
    if table and not args.save:
        print(f'\nHuman Numbers, what this run reached:\n\n{table}\n\n'
              f'Read on: make lab, and open {lessons()[0].relative_to(root).as_posix()}. '
              'The answers to the questions are in nbs/answers/.')


if __name__ == '__main__': main()
