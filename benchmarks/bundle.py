"What `imdb.py` moves between machines: the ids of all reviews, and a language model with 8 bits for each weight."
import json, lzma, math, sys
from pathlib import Path

import numpy as np, torch

from common import Clock, machine
from lesson8nlp.corpus import Corpus
from lesson8nlp.store import open_sealed, sealed_folder, write_json

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

    def numbers(self, part): return np.flatnonzero(self.part == parts.index(part))
    def docs(self, numbers): return [self.ids[self.offsets[i]:self.offsets[i+1]] for i in numbers]

    @classmethod
    def make(cls, path, files, texts, max_vocab):
        "From `files` below the folder `texts`, which has the parts of IMDB."
        with Clock() as c: corpus = Corpus.from_files(files, max_vocab=max_vocab, progress=sys.stderr.isatty())
        where = [f.relative_to(texts).parts for f in files]
        labels = np.array([255 if w[0] == 'unsup' else classes.index(w[1]) for w in where], np.uint8)
        with sealed_folder(path, 'bundle', replace=True) as tmp:
            (tmp/'ids.xz').write_bytes(lzma.compress(np.ascontiguousarray(corpus.ids).tobytes(), preset=6))
            np.savez_compressed(tmp/'reviews.npz', offsets=np.asarray(corpus.offsets), labels=labels,
                                part=np.array([parts.index(w[0]) for w in where], np.uint8))
            write_json(tmp/'vocab.json', list(corpus.vocab))
            write_json(tmp/'info.json', dict(dtype=str(corpus.ids.dtype), n_docs=len(corpus), n_tokens=len(corpus.ids),
                                             n_vocab=len(corpus.vocab), seconds=round(c.s, 1), machine=machine()))
        return cls(path)


def to_8_bits(state):
    "Matrices as int8 with a scale for each row, other weights as they are; and for tied weights the name of the first."
    arrays, tied, first = {}, {}, {}
    for k, w in state.items():
        if (same := first.setdefault((w.data_ptr(), w.shape), k)) != k: tied[k] = same; continue
        w = w.float().cpu()
        if w.ndim != 2: arrays[k] = w.numpy(); continue
        scale = w.abs().amax(1, keepdim=True).clamp(min=1e-12)/127
        arrays[k], arrays[f'{k}:scale'] = (w/scale).round().to(torch.int8).numpy(), scale.numpy()
    return arrays, tied


def from_8_bits(arrays, tied):
    "The state that `to_8_bits` took apart, as float32."
    weights = {k: torch.from_numpy(w) for k, w in arrays.items() if not k.endswith(':scale')}
    weights = {k: w*torch.from_numpy(arrays[f'{k}:scale']) if f'{k}:scale' in arrays else w for k, w in weights.items()}
    return weights | {k: weights[v] for k, v in tied.items()}


def save_8_bits(folder, state, part):
    "A sealed folder with the weights, compressed, in files of at most `part` bytes."
    arrays, tied = to_8_bits(state)
    data = b''.join(a.tobytes() for a in arrays.values())
    shapes, step = {k: [str(a.dtype), list(a.shape)] for k, a in arrays.items()}, part - part//100  # xz adds a little
    with sealed_folder(folder, 'weights', replace=True) as tmp:
        names = [f'weights-{i:03d}.xz' for i in range(math.ceil(len(data)/step))]
        for i, name in enumerate(names): (tmp/name).write_bytes(lzma.compress(data[i*step:(i + 1)*step], preset=1))
        write_json(tmp/'weights.json', dict(tied=tied, arrays=shapes, files=names))


def load_8_bits(folder):
    "The state that `save_8_bits` wrote, once all files have proved to be whole."
    open_sealed(folder, 'weights', remedy='Copy the folder again, or remove it to train the language model again.')
    info = read_json(folder/'weights.json')
    data, arrays, at = b''.join(lzma.decompress((folder/n).read_bytes()) for n in info['files']), {}, 0
    for k, (dtype, shape) in info['arrays'].items():
        arrays[k] = np.frombuffer(data, dtype, math.prod(shape), at).reshape(shape).copy()
        at += arrays[k].nbytes
    return from_8_bits(arrays, info['tied'])
