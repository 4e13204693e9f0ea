"Public names that no other test speaks of, each at what its docstring says."
import inspect, math, random

import numpy as np, pytest, torch
from torch import nn

from lesson8nlp.awdlstm import SequentialRNN
from lesson8nlp.beyond import TransformerBlock
from lesson8nlp.codec import Codec, is_fragment
from lesson8nlp.core import hardware
from lesson8nlp.data import sample_review
from lesson8nlp.dataloader import ClassDataLoader, EncodeText, PadRight
from lesson8nlp.fasttok import GrowingLists
from lesson8nlp.generate import Writer, generate, nucleus
from lesson8nlp.learner import BitsPerToken, StopOnNaN, TokenPerplexity, VocabMatch, match_report
from lesson8nlp.models import LMModel7
from lesson8nlp.resume import run_identity
from lesson8nlp.store import CorruptedError, is_pickle, read_manifest, sealed_folder
from lesson8nlp.tokenizer import EOS, FLD, lowercase, special_tokens
from lesson8nlp.ulmfit import (architectures, bag_of_words, describe_model, grow_codec, known_words, linear_probe,
                               pooled_states, temporary_seed)

V = ['xxunk', 'xxpad', 'xxbos', 'xxeos', *'abcdefgh']
codec = Codec(lambda t: ['xxbos', *t.split()], V)


def test_sequential_rnn_resets_what_can_be_reset():
    class Part(nn.Identity):
        n = 0
        def reset(self): self.n += 1
    model = SequentialRNN(Part(), nn.Linear(2, 2), Part())
    model.reset()
    assert [m.n for m in model if hasattr(m, 'n')] == [1, 1]


def test_transformer_block_is_causal_and_adds_to_what_comes_in():
    block = TransformerBlock(8, 2, window=4, p=0.).eval()
    x, past = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    y = block(x, past)
    assert y.shape == x.shape
    later = x.clone()
    later[:, 3:] += 1
    assert torch.allclose(block(later, past)[:, :3], y[:, :3], atol=1e-5)
    for p in block.parameters(): nn.init.zeros_(p)
    assert torch.equal(block(x, past), x)


def test_hardware_names_torch(): assert f'torch {torch.__version__.split("+")[0]}' in hardware()


def test_sample_review_depends_on_its_label_and_its_generator():
    a, b = (sample_review('pos', random.Random(s)) for s in (1, 1))
    assert a == b and a != sample_review('neg', random.Random(1))
    with pytest.raises(ValueError, match='pos'): sample_review('good', random.Random(1))


def test_pad_right_makes_rows_of_one_length():
    rows = PadRight(1).encodes([(torch.tensor([4, 5, 6]), 0), (torch.tensor([7]), 1)])
    assert [r[0].tolist() for r in rows] == [[4, 5, 6], [7, 1, 1]] and [r[1] for r in rows] == [0, 1]


def test_class_data_loader_leaves_no_document_alone():
    docs = [(torch.arange(n), 0) for n in (3, 4, 5, 6, 7)]
    dl = ClassDataLoader(docs, bs=2, sort_func=lambda o: len(o[0]), shuffle=False, before_batch=PadRight(1))
    assert sorted(len(b[0]) for b in dl) == [2, 3] and len(dl) == 2


def test_encode_text_takes_texts_and_ids():
    enc = EncodeText(codec)
    assert enc.encodes('a b').tolist() == [2, 4, 5] and enc.encodes(torch.tensor([4])).tolist() == [4]
    assert enc.decodes(torch.tensor([2, 4, 1])) == 'xxbos a'


def test_writer_chooses_the_most_probable_token_at_temperature_0():
    class Next(nn.Module): # after letter i comes letter i+1
        def __init__(self): super().__init__(); self.w = nn.Parameter(torch.zeros(1))
        def reset(self): pass
        def forward(self, x): return nn.functional.one_hot((x + 1) % len(V), len(V)).float()*9
    writer = Writer(Next(), codec, max_tokens=3, temperature=0)
    (ids, log_probs), = writer.write([[2, 4]])[0]
    assert [V[i] for i in ids] == ['b', 'c', 'd'] and all(p <= 0 for p in log_probs)
    with pytest.raises(ValueError, match='beam of 2'): Writer(Next(), codec, n=3, beams=2)


def test_bits_per_token_is_the_loss_with_a_base_of_2():
    bits, perplexity = BitsPerToken(), TokenPerplexity()
    for m in (bits, perplexity): m.reset(); m.total, m.count = torch.tensor(4*math.log(8)), 4
    assert bits.name == 'bits_per_token' and bits.value == pytest.approx(3) and perplexity.value == pytest.approx(8)


def test_stop_on_nan_counts_bad_steps():
    cb = StopOnNaN(patience=2)
    assert cb.patience == 2 and cb.order > 0


def test_vocab_match_says_what_is_new():
    m = match_report(['a', 'b'], ['b', 'c', 'd'])
    assert isinstance(m, VocabMatch) and (m.found, m.missing) == (1, ['c', 'd']) and '1 of 3 words' in repr(m)
    # a word that is a line break stays on the line
    assert repr(match_report(['a'], ['\n', 'naïve'])).endswith(r'new: \n, naïve')


def test_run_identity_changes_with_what_decides_the_result():
    from fastai.basics import DataLoaders, Learner
    from fastai.data.load import DataLoader
    data = [(torch.ones(1), torch.ones(1))]*4
    def identity(lr, width=1):
        learn = Learner(DataLoaders(DataLoader(data, bs=2), DataLoader(data, bs=2)), nn.Linear(1, width),
                        loss_func=nn.MSELoss(), lr=lr)
        learn.create_opt()
        learn.n_epoch = 1
        return run_identity(learn)
    assert identity(0.1) == identity(0.1) and identity(0.1)['parameters'] != identity(0.1, 2)['parameters']


def test_manifest_of_a_sealed_folder(tmp_path):
    with sealed_folder(tmp_path/'m', 'model') as tmp: (tmp/'a.txt').write_text('abc')
    assert read_manifest(tmp_path/'m', 'model')['files']['a.txt']['bytes'] == 3
    with pytest.raises(ValueError, match='holds a model, not a corpus'): read_manifest(tmp_path/'m', 'corpus')
    (tmp_path/'m'/'manifest.json').write_text('{')
    with pytest.raises(CorruptedError, match='truncated or altered'): read_manifest(tmp_path/'m', 'model')


def test_pickles_are_known_by_name_and_by_content(tmp_path):
    import pickle, safetensors.torch
    (tmp_path/'a.bin').write_bytes(pickle.dumps([1]))
    (tmp_path/'b.pkl').write_bytes(b'')
    torch.save([1], tmp_path/'c.data')
    safetensors.torch.save_file({'w': torch.ones(2)}, tmp_path/'d.safetensors')
    np.savez(tmp_path/'e.npz', a=np.ones(2))
    assert [is_pickle(p) for p in sorted(tmp_path.iterdir())] == [True, True, True, False, False]


def test_marks_of_end_and_field():
    assert EOS in special_tokens and FLD in special_tokens
    assert lowercase('A b', add_eos=True) == f'xxbos a b {EOS}'


def test_architectures_are_found_by_what_they_are():
    from lesson8nlp.models import LMModel2
    name, config = describe_model(LMModel2(len(V), 4))
    assert name in architectures and type(architectures[name][0](**config)) is LMModel2


def test_temporary_seed_puts_the_states_back():
    torch.manual_seed(1); np.random.seed(1); random.seed(1)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(1); np.random.seed(1); random.seed(1)
    with temporary_seed(7): a = torch.rand(1)
    with temporary_seed(7): assert torch.equal(torch.rand(1), a)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_grow_codec_appends_what_is_frequent():
    words = Codec(None, special_tokens + ['film'])
    more = grow_codec(words, ['A dull film.']*3 + ['A rare film.'])
    assert more.vocab[:len(words.vocab)] == words.vocab and 'dull' in more.vocab and 'rare' not in more.vocab
    assert grow_codec(words, ['film']) is words


def test_known_words_counts_distinct_ones():
    m = known_words(Codec(None, special_tokens + ['film']), ['film film dull'])
    assert m.missing == ['dull'] and m.found == 2  # xxbos and film


def test_bag_of_words_learns_what_is_plain():
    texts = ['good film', 'bad film', 'good plot', 'bad plot']*3
    assert bag_of_words(texts, ['pos', 'neg']*6, ['good cast good', 'bad cast bad']).tolist() == ['pos', 'neg']
    with pytest.raises(ValueError, match='There are 12 texts and 11 labels'):
        bag_of_words(texts, (['pos', 'neg']*6)[:11], texts)


def test_bag_of_words_counts_marks_and_letters_and_takes_texts_alone():
    "An exclamation mark and *I* are all that tells these texts apart; what is no text was a bare AttributeError."
    for weigh in ('tfidf', 'ratios'):
        assert bag_of_words(['A film !', 'A film ?']*6, [1, 0]*6, ['?', '!'], weigh=weigh).tolist() == [0, 1]
        assert bag_of_words(['I film', 'U film']*6, [1, 0]*6, ['U', 'I'], weigh=weigh).tolist() == [0, 1]
    for bad in (None, 7, b'film'):
        with pytest.raises(TypeError, match='Text 1 of 2'): bag_of_words(['a', bad], [0, 1], ['a'])


def test_linear_probe_separates_what_the_encoder_separates():
    from fastai.basics import DataLoaders
    from fastai.text.models.awdlstm import AWD_LSTM as _  # noqa: F401 (registers fastai's metadata)
    from lesson8nlp.awdlstm import AWD_LSTM, awd_lstm_clas_config
    from lesson8nlp.classifier import text_classifier_learner
    from lesson8nlp.ulmfit import class_dl
    texts, labels = ['a a a', 'b b b']*12, ['pos', 'neg']*12
    with temporary_seed(1):
        dls = DataLoaders(*[class_dl(texts, labels, codec=codec, classes=['neg', 'pos'], bs=4, device='cpu')]*2)
        config = awd_lstm_clas_config | dict(emb_sz=8, n_hid=8, n_layers=1)
        learn = text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, n_out=2, lin_ftrs=[], ps=[])
        x, y = pooled_states(learn)
        linear_probe(learn, C=1.)
    assert x.shape == (24, 24) and sorted(y.tolist()) == [0]*12 + [1]*12
    learn.model.eval()
    xb, yb = dls.train.one_batch()
    with torch.no_grad(): assert (learn.model(xb)[0].argmax(1) == yb).all()


def test_linear_probe_has_no_large_bias_where_two_labels_are_alike():
    "It had values over 100, which dropout made into noise: the loss began at 20 and more."
    from fastai.basics import DataLoaders
    from lesson8nlp.awdlstm import AWD_LSTM, awd_lstm_clas_config
    from lesson8nlp.classifier import text_classifier_learner
    from lesson8nlp.ulmfit import class_dl
    texts = ['a a a']*20 + ['b b b']*20 + ['a a b']
    labels = ['x', *['y']*19, *['z']*20, 'x'] # x and y come with the same texts, and not equally often
    with temporary_seed(1):
        dls = DataLoaders(*[class_dl(texts, labels, codec=codec, classes=['x', 'y', 'z'], bs=4, device='cpu')]*2)
        config = awd_lstm_clas_config | dict(emb_sz=8, n_hid=8, n_layers=1)
        learn = text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, n_out=3, lin_ftrs=[], ps=[])
        linear_probe(learn)
    assert learn.model[1].layers[0][0].bias.abs().max() < 5


def test_what_mutants_survived():
    "Boundaries and defaults that `make mutate` found without a test."
    import inspect
    import lesson8nlp.ulmfit as ulmfit
    from lesson8nlp.awdlstm import chunked_cross_entropy
    h, w = torch.randn(2, 3), torch.randn(4, 3)
    assert chunked_cross_entropy(h, w, None, torch.tensor([0, 3])).isfinite()
    with pytest.raises(ValueError, match='knows 0 to 3'): chunked_cross_entropy(h, w, None, torch.tensor([0, 4]))
    assert not EncodeText(codec).backwards and EncodeText(codec, True).encodes('a b').tolist() == [5, 4, 2]
    lists = GrowingLists()
    lists.extend(np.array([7, 8, 9], np.int32), np.array([0, 2, 0, 1]))
    assert [o.tolist() for o in lists.ends(np.arange(4))] == [[-1, 7, -1, 9], [-1, 8, -1, 9]]
    for f in (ulmfit.pretrain, ulmfit.finetune, ulmfit.train_classifier):
        assert inspect.signature(f).parameters['seed'].default == 42
    # as in fastai and in the paper's code
    assert inspect.signature(ulmfit.finetune).parameters['seq_len'].default == 72


def test_defaults_are_fastais():
    "Whoever changes the import gets the same training: rates, dropout, penalties, sizes of batches and pieces."
    import fastai.basics, fastai.text.data, fastai.text.learner
    from fastai.text.models import awdlstm, core
    from lesson8nlp import awdlstm as awd, classifier, dataloader, learner, losses
    fl = fastai.text.learner
    for ours, theirs in ((learner.TextLearner.__init__, fl.TextLearner.__init__),
                         (learner.language_model_learner, fl.language_model_learner),
                         (classifier.text_classifier_learner, fl.text_classifier_learner),
                         (classifier.get_text_classifier, core.get_text_classifier),
                         (awd.AWD_LSTM.__init__, awdlstm.AWD_LSTM.__init__),
                         (awd.LinearDecoder.__init__, core.LinearDecoder.__init__),
                         (awd.RNNDropout.__init__, awdlstm.RNNDropout.__init__),
                         (awd.get_language_model, core.get_language_model),
                         (dataloader.LMDataLoader.__init__, fastai.text.data.LMDataLoader.__init__),
                         (losses.fused_adam, fastai.basics.Adam)):
        has = [{k: p.default for k, p in inspect.signature(f).parameters.items() if p.default is not p.empty}
               for f in (ours, theirs)]
        same = has[0].keys() & has[1].keys()
        assert same and {k: has[0][k] for k in same} == {k: has[1][k] for k in same}, theirs
    usual = lambda f, k: inspect.signature(f).parameters[k].default
    assert [usual(classifier.DocumentEncoder.__init__, k) for k in ('seq_len', 'bptt', 'pad_idx')] == [72, 72*20, 1]


def test_the_nucleus_holds_no_token_more_than_it_needs():
    assert nucleus(torch.tensor([[0.25, 0.5, 0.25]]), 0.5).tolist() == [[0, 1, 0]]
    assert nucleus(torch.tensor([[0.25, 0.5, 0.25]]), 0.75).count_nonzero() == 2


def test_fifty_tokens_are_written_if_nobody_says_how_many():
    model = LMModel7(3, 4, 1, 0.)
    assert len(generate(model, [1], codec=['a', 'b', 'c'], details=True).ids) == 50
    assert Writer(model, Codec(None, ['a', 'b', 'c'])).max_tokens == 50


def test_a_fragment_has_two_letters_at_most_and_is_no_word():
    assert [o for o in ('g', 'gr', 'gre', 'so', '1', '!') if is_fragment(o)] == ['g', 'gr']
