"""The single measurements of `bench.py`: each runs alone, in a process of its own.

A measurement is a generator that stops twice: when its libraries are imported (from there on memory counts),
and with its result, a dict of figures. What a peer needs beforehand, such as a vocab, is outside the clock."""
import json, os
from itertools import chain, islice
from statistics import median

import numpy as np
from common import Clock

bs, seq_len = 64, 72 # rows and columns of a batch, for all loaders
measures = {}

def measure(f):
    "Make the generator `f` known by its name."
    measures[f.__name__] = f
    return f

# ---- the reviews, as `bench.py` has laid them out in its work folder
def reviews(a):
    "The first `a.n` reviews, as a list of strings."
    with open(a.work/'reviews.jsonl', encoding='utf-8') as f: return [json.loads(o) for o in islice(f, a.n)]

def files(a):
    "The files of the first `a.n` reviews, sorted."
    return sorted(json.loads((a.work/'files.json').read_text(encoding='utf-8'))[:a.n])

def megabytes(texts): return sum(len(t.encode()) for t in texts)/1e6
def batches(texts, n=5000): return (texts[i:i+n] for i in range(0, len(texts), n))
def result(s, texts, **more): return dict(s=s, n=len(texts), mb=megabytes(texts)) | more
def first_docs(c, n): return [c[i] for i in range(len(c))[:n]]

# ---- text -> ids
@measure
def fastai_ids(a):
    "fastai's rules, spaCy and `Numericalize`; counting the vocab is outside the clock."
    from fastai.text.all import Numericalize, TokenizeWithRules, WordTokenizer
    from lesson8nlp.fasttok import FastTokenizer
    yield
    texts = reviews(a)
    with Clock() as tok: toks = list(TokenizeWithRules(WordTokenizer())(texts))
    num = Numericalize()
    num.setup(toks)
    with Clock() as nums: ids = [num(o) for o in toks]
    if a.memory: yield result(tok.s + nums.s, texts)
    fast = FastTokenizer()
    ours, lens = fast.encode(texts)
    rows = np.split(ours, np.cumsum(lens)[:-1])
    wrong = sum([fast.tokens[i] for i in row.tolist()] != list(o) for row, o in zip(rows, toks, strict=True))
    yield result(tok.s + nums.s, texts, mismatches=wrong, n_tokens=sum(map(len, ids)))

@measure
def spacy_ids(a):
    "spaCy's tokenizer with no rules around it; the ids are its own hashes."
    import spacy
    from spacy.attrs import ORTH
    yield
    texts, tk = reviews(a), spacy.blank('en').tokenizer
    with Clock() as c: ids = [doc.to_array(ORTH) for doc in tk.pipe(texts)]
    yield result(c.s, texts, n_tokens=sum(map(len, ids)))

def hf_train(a, kind):
    "Train a tokenizer of Hugging Face on the texts that it will be measured on; kept in the work folder."
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    path = a.work/f'{kind}.{a.n}.json'
    if path.exists(): return
    if kind == 'wordlevel':
        tok = Tokenizer(models.WordLevel(unk_token='[UNK]'))
        tok.normalizer, tok.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        how = dict(vocab_size=60000, min_frequency=3, special_tokens=['[UNK]'], show_progress=False)
        trainer = trainers.WordLevelTrainer(**how)
    else:
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        how = dict(vocab_size=30000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        trainer = trainers.BpeTrainer(**how)
    tok.train_from_iterator(reviews(a), trainer)
    tok.save(str(path))

def hf_ids(a, kind, fast=True):
    "Hugging Face's Rust, with as many threads as the environment allows; `fast` leaves out where each token stands."
    from tokenizers import Tokenizer
    yield
    tok, texts = Tokenizer.from_file(str(a.work/f'{kind}.{a.n}.json')), reviews(a)
    encode = tok.encode_batch_fast if fast else tok.encode_batch
    flat = lambda b: np.fromiter(chain.from_iterable(e.ids for e in encode(b)), np.int32)
    with Clock() as c: ids = [flat(b) for b in batches(texts)]
    yield result(c.s, texts, n_tokens=sum(map(len, ids)))

@measure
def hf_wordlevel_train(a): yield; yield dict(s=hf_train(a, 'wordlevel'))
@measure
def hf_bpe_train(a): yield; yield dict(s=hf_train(a, 'bpe'))
@measure
def hf_wordlevel(a): return hf_ids(a, 'wordlevel')
@measure
def hf_wordlevel_offsets(a): return hf_ids(a, 'wordlevel', fast=False)
@measure
def hf_bpe(a): return hf_ids(a, 'bpe')

@measure
def ours_ids(a):
    "`Codec.encode_all` on one core: a new object (cold), then the same object again (warm)."
    from lesson8nlp.codec import Codec
    from lesson8nlp.corpus import Corpus
    from lesson8nlp.tokenizer import Tokenizer
    yield
    texts, vocab = reviews(a), Corpus.open(a.work/'corpus').vocab
    def run(codec): return [ids for b in batches(texts) for ids in codec.encode_all(b)]
    with Clock() as cold:
        codec = Codec(Tokenizer(), vocab)
        ids = run(codec)
    with Clock() as warm: run(codec)
    yield result(cold.s, texts, warm=warm.s, n_tokens=sum(map(len, ids)))

@measure
def ours_cached(a):
    "The same call again with a corpus in its cache: every text is read and compared by content; none is tokenized."
    from lesson8nlp.corpus import Corpus
    yield
    texts, how = reviews(a), dict(path=a.work/f'cached.{a.n}', progress=False)
    if not how['path'].exists(): Corpus.from_texts(texts, **how)
    with Clock() as c: corpus = Corpus.from_texts(texts, **how, n_workers=1)
    yield result(c.s, texts, n_tokens=corpus.n_tokens)

# ---- files -> Corpus
@measure
def ours_corpus(a):
    "From files to a `Corpus` on disk with all cores (or `--workers`), nothing cached; names are listed before."
    from lesson8nlp.corpus import Corpus
    yield
    paths = files(a)
    with Clock() as c: corpus = Corpus.from_files(paths, path=a.work/a.folder, n_workers=a.workers, progress=False)
    mb = sum(os.stat(o).st_size for o in paths)/1e6
    yield dict(s=c.s, n=len(paths), mb=mb, n_tokens=corpus.n_tokens, dtype=str(corpus.ids.dtype))

# ---- ids -> batches
def epoch(dl):
    "Seconds of an epoch (the shuffling is inside) and the number of input tokens."
    with Clock() as c: n = sum(x.numel() for x, y in dl)
    return c.s, n

def loaded(seconds, a, **more): return dict(s=median(s for s, _ in seconds), n_tokens=seconds[0][1], n=a.n) | more

@measure
def fastai_batches(a):
    "fastai's `LMDataLoader` at its fastest: documents are plain tensors in memory, lengths are known."
    import torch
    from fastai.text.all import LMDataLoader
    from lesson8nlp.corpus import Corpus
    yield
    docs = [torch.from_numpy(o.astype(np.int64)) for o in first_docs(Corpus.open(a.work/'corpus'), a.n)]
    dl = LMDataLoader(docs, lens=[len(o) for o in docs], bs=bs, seq_len=seq_len, shuffle=True, num_workers=0)
    yield loaded([epoch(dl)], a)

@measure
def ours_batches(a):
    "Our `LMDataLoader` on a corpus that this process opens first (with all its checks); the median of three epochs."
    from lesson8nlp.corpus import Corpus
    from lesson8nlp.dataloader import LMDataLoader
    yield
    with Clock() as opened: corpus = Corpus.open(a.work/'corpus')
    dl = LMDataLoader(corpus, bs=bs, seq_len=seq_len, shuffle=True, seed=0)
    yield loaded([epoch(dl) for _ in range(3)], a, open=opened.s)

@measure
def limit_batches(a):
    """The least that can be done: slices of one tensor of ids, not shuffled, copied to int64;
    and a plain copy in memory of all int64 inputs and targets of an epoch."""
    import torch
    from lesson8nlp.corpus import Corpus
    yield
    ids = torch.from_numpy(np.array(Corpus.open(a.work/'corpus').ids))
    n = (len(ids) - 1)//bs*bs
    x, y = ids[:n].view(bs, -1), ids[1:n+1].view(bs, -1)
    pairs = lambda: ((x[:, i:i+seq_len].long(), y[:, i:i+seq_len].long()) for i in range(0, x.shape[1], seq_len))
    slices = [epoch(pairs()) for _ in range(3)]
    src = x.reshape(-1).long().numpy()
    dst = np.zeros((2, n), np.int64)
    def copy():
        with Clock() as c: dst[0], dst[1] = src, src
        return c.s
    yield loaded(slices, a, copy=median(copy() for _ in range(3)))

def run_one(a):
    "Run the measurement `a.one` and print its result as a line of JSON; with `a.memory` wait for a line after imports."
    a.n, steps = a.n or None, measures[a.one](a)
    next(steps)
    if a.memory:
        print('ready', flush=True)
        input()
    print(json.dumps(next(steps)), flush=True)
