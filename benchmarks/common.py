"""What the benchmarks share: one timer, the card, the real reviews, rows of a run that has not ended, made-up words,
and modules that stand in for missing tokenizers."""
import gc, platform, subprocess, sys, time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

results = Path(__file__).resolve().parent/'results'


def stand_ins():
    "Where spaCy or sentencepiece is missing, let an empty module take its name, for benchmarks that tokenize nothing."
    class Empty(ModuleType):
        __path__, __version__ = [], 'missing'
        def __getattr__(self, k):
            if k.startswith('__'): raise AttributeError(k)
            return type(k, (), dict(Defaults=SimpleNamespace(tokenizer_exceptions={}, stop_words=set())))
    parts = '', '.symbols', '.attrs', '.tokenizer', '.vocab', '.lang', '.lang.en'
    for name in ('spacy', 'sentencepiece'):
        if name in sys.modules or find_spec(name): continue
        for p in parts: sys.modules[name + p] = Empty(name + p)


def real_reviews(download=False, or_else=''):
    "The folder of IMDB; without the real reviews the program ends, and says what to do (`or_else`: or what else)."
    from lesson8nlp.data import get_imdb
    path = get_imdb(download)
    if path.name != 'imdb':
        raise SystemExit('Results of record need the real reviews of IMDB, and here are only made-up ones: get the '
                         f'real ones with lesson8nlp.data.get_imdb(){or_else}.')
    return path


def started(path): return path.with_suffix('.started')  # rows of a run that has not ended, which no page shows


def end_run(path, rows):
    "Save all `rows` of a run that has ended, and remove those that it kept in `started` on its way."
    from lesson8nlp.core import save_results
    save_results(path, rows)
    started(path).unlink(missing_ok=True)


def output(args, what, **kwargs):
    "What the program `args` printed; if it fails, an error with the end of what it said on stderr."
    r = subprocess.run(args, capture_output=True, text=True, **kwargs)
    if r.returncode: raise RuntimeError(f'{what} failed with status {r.returncode}:\n{r.stderr[-2000:]}')
    return r.stdout


def card():
    "torch's module for CUDA if torch is loaded and there is a GPU, otherwise None."
    torch = sys.modules.get('torch')
    return torch.cuda if torch and torch.cuda.is_available() else None


def sync():
    "Wait until the GPU has done what it was asked for."
    if card(): card().synchronize()


def clear():
    "Give back the memory that nothing holds any more."
    gc.collect()
    if card(): card().empty_cache()


class Clock:
    "Seconds of a `with` block as `.s`, of the processor as `.cpu`, the GPU's work included; or from `start` to `stop`."
    def __init__(self): self.start()
    def start(self):
        sync()
        self.began = time.perf_counter(), time.process_time()
        return self
    def stop(self):
        sync()
        self.s, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        return self.s
    def __enter__(self): return self.start()
    def __exit__(self, *_): self.stop()


def seconds(f, rounds=1, repeat=1, warm=0):
    "Seconds of one `f()`: a list with the mean of `repeat` calls for each round, after `warm` calls that do not count."
    for _ in range(warm): f()
    out = []
    for _ in range(rounds):
        with Clock() as c:
            for _ in range(repeat): f()
        out.append(c.s/repeat)
    return out


def made_up_words(n):
    "`n` distinct words of letters, none twice in a row, which every tokenizer keeps whole."
    return ['w' + 'k'.join(chr(97 + int(d)) for d in str(i)) for i in range(n)]


def machine():
    "Versions of what ran, and the GPU with its driver."
    import torch
    def of(p):
        try: return version(p)
        except PackageNotFoundError: return 'from its folder'
    versions = dict(torch=torch.__version__, fastai=of('fastai'), lesson8nlp=of('lesson8nlp'))
    what = dict(python=platform.python_version(), **versions, threads=torch.get_num_threads())
    if not card(): return what
    gpu, ask = card().get_device_properties(0), ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try: driver = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError): driver = 'unknown'
    what |= dict(card=gpu.name, memory_gb=round(gpu.total_memory/2**30, 1), driver=driver)
    return what | dict(cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
