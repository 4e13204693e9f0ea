"What `imdb.py` moves between machines: the ids of all reviews, and a language model with 8 bits for each weight."
import json, lzma, re, sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common import Clock, machine
from lesson8nlp.corpus import Corpus
from lesson8nlp.store import open_sealed, sealed_folder, write_json
from lesson8nlp.ulmfit import TextModel

parts, classes = ['train', 'test', 'unsup'], ['neg', 'pos']


def read_json(path): return json.loads(path.read_text(encoding='utf-8'))


class Bundle:
    "The ids of all reviews in a sealed folder, with the part of IMDB and the label of each, and the vocab."
    def __init__(self, path):
        self.path = path = Path(path)
        if not (path/'manifest.json').is_file():
            raise FileNotFoundError(f'There is no bundle in {path.name}: make one with --until prepare.')
        remedy = 'Copy the whole folder again, or make it with --until prepare.'
        self.files = open_sealed(path, 'bundle', remedy=remedy)['files']
        with np.load(path/'reviews.npz', allow_pickle=False) as z:
            self.offsets, self.part, self.labels = z['offsets'], z['part'], z['labels']
        self.info, self.vocab = read_json(path/'info.json'), read_json(path/'vocab.json')
        self.ids = np.frombuffer(lzma.decompress((path/'ids.xz').read_bytes()), self.info['dtype'])
        self.info |= dict(key=self.files['ids.xz']['sha256'])  # as a corpus has one

    def __len__(self): return len(self.offsets) - 1
    def __getitem__(self, i): return self.ids[self.offsets[i]:self.offsets[i+1]]
    def numbers(self, part): return np.flatnonzero(self.part == parts.index(part))
    def docs(self, numbers): return [self[i] for i in numbers]

    @classmethod
    def make(cls, path, files, texts, n, max_vocab):
        "From `files` below the folder `texts`, which has the parts of IMDB: `n` of each part, or all (None)."
        with Clock() as c: corpus = Corpus.from_files(files, max_vocab=max_vocab, progress=sys.stderr.isatty())
        where = [f.relative_to(texts).parts for f in files]
        labels = np.array([255 if w[0] == 'unsup' else classes.index(w[1]) for w in where], np.uint8)
        with sealed_folder(path, 'bundle', replace=True) as tmp:
            (tmp/'ids.xz').write_bytes(lzma.compress(np.ascontiguousarray(corpus.ids).tobytes(), preset=6))
            np.savez_compressed(tmp/'reviews.npz', offsets=np.asarray(corpus.offsets), labels=labels,
                                part=np.array([parts.index(w[0]) for w in where], np.uint8))
            write_json(tmp/'vocab.json', list(corpus.vocab))
            write_json(tmp/'info.json', dict(dtype=str(corpus.ids.dtype), n_docs=len(corpus), n_tokens=len(corpus.ids),
                                             n_vocab=len(corpus.vocab), n=n, max_vocab=max_vocab,
                                             seconds=round(c.s, 1), machine=machine()))
        return cls(path)


def save_in_parts(folder, lm, part):
    "The `TextModel` `lm` as the library saves it, weights rounded, in a sealed folder of files up to `part` bytes."
    with TemporaryDirectory() as tmp, sealed_folder(folder, 'model in parts', replace=True) as to:
        for f in sorted(lm.save(Path(tmp)/'model', compact=True, own_tok=True).iterdir()):
            data = f.read_bytes()
            for i, at in enumerate(range(0, len(data), part)):
                (to/f'{f.stem}-{i:03d}{f.suffix}').write_bytes(data[at:at+part])


def load_from_parts(folder, device='cpu', tok=None):
    "The `TextModel` that `save_in_parts` wrote, once all files have proved to be whole."
    remedy = 'Copy the folder again, or remove it to train the language model again.'
    names = open_sealed(folder, 'model in parts', remedy=remedy)['files']
    with TemporaryDirectory() as tmp:
        (path := Path(tmp)/'model').mkdir()
        for name in sorted(names):
            with open(path/re.sub(r'-\d+(?=\.)', '', name), 'ab') as f: f.write((folder/name).read_bytes())
        return TextModel.load(path, device, tok)
