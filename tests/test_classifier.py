"What the classifier lesson cannot show well: many random batches, mixed precision, long documents."
import pytest, torch, torch.nn.functional as F
from hypothesis import given, settings, strategies as st

import lesson8nlp.core, lesson8nlp.interchange
import fastai.text.all as ft
from lesson8nlp.awdlstm import AWD_LSTM, awd_lstm_clas_config
from lesson8nlp.classifier import *
from lesson8nlp.codec import Codec
from lesson8nlp.dataloader import class_dataloaders, class_dl
from lesson8nlp.tokenizer import Tokenizer

config = awd_lstm_clas_config | dict(emb_sz=12, n_hid=16, n_layers=2)
words = Tokenizer(rules=[str.lower])

def model(n_class=3, seq_len=5, **kwargs):
    torch.manual_seed(0)
    return get_text_classifier(AWD_LSTM, 40, n_class, seq_len=seq_len, config=config, **kwargs).eval()

def padded(docs, how, more):
    "Documents in a batch with padding in front (0), behind (1) or on both sides (2)."
    n = max(map(len, docs)) + more
    left = lambda d: [n - len(d), 0, (n - len(d))//2][how]
    return torch.stack([F.pad(d, (left(d), n - len(d) - left(d)), value=1) for d in docs])

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 23), min_size=1, max_size=9), st.integers(0, 2), st.integers(0, 7), st.integers(1, 8),
       st.integers(0, 99))
def test_a_document_gets_the_same_answer_in_any_batch(lens, how, more, seq_len, seed):
    m, g = model(seq_len=seq_len), torch.Generator().manual_seed(seed)
    docs = [torch.randint(2, 40, (n,), generator=g) for n in lens]
    with torch.no_grad():
        alone = torch.cat([m(d[None])[0] for d in docs])
        torch.testing.assert_close(m(padded(docs, how, more))[0], alone, atol=1e-5, rtol=1e-5)

def test_bfloat16():
    m, docs = model(), [torch.randint(2, 40, (n,)) for n in (3, 9, 14)]
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        alone = torch.cat([m(d[None])[0] for d in docs])
        torch.testing.assert_close(m(padded(docs, 1, 0))[0], alone, atol=2e-2, rtol=2e-2)

@pytest.mark.parametrize('bptt', [1, 4, 5, 7, 100])
def test_only_the_last_tokens_are_learned_from(bptt):
    m = model(max_len=bptt)
    docs = [torch.arange(2, 19), torch.arange(19, 25), torch.arange(25, 36)]
    m(padded(docs, 1, 0))[0].sum().backward()
    used = set((m[0].module.encoder.weight.grad.abs().sum(1) > 0).nonzero()[:, 0].tolist())
    for d in docs:
        first = max(len(d) - bptt, 0)//5*5 # the beginning of the piece in which the first of them lies
        assert used & set(d.tolist()) == set(d[first:].tolist())

def test_what_is_not_learned_from_is_still_read():
    a, b, x = model(max_len=2), model(max_len=1000), torch.randint(2, 40, (2, 31))
    torch.testing.assert_close(a(x)[0], b(x)[0])

def test_fastais_weights_go_in_and_ours_go_out():
    theirs = ft.get_text_classifier(ft.AWD_LSTM, 40, 3, seq_len=5, config=config).eval()
    ours = model()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randint(2, 40, (4, 10))
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], atol=1e-5, rtol=1e-5)
    theirs.load_state_dict(model(seq_len=7).state_dict())

def test_gradients_are_fastais():
    theirs = ft.get_text_classifier(ft.AWD_LSTM, 40, 3, seq_len=5, config=config).eval()
    ours, x = model(), torch.randint(2, 40, (4, 20))
    ours.load_state_dict(theirs.state_dict())
    for m in (ours, theirs): F.cross_entropy(m(x)[0], torch.tensor([0, 1, 2, 0])).backward()
    grads = dict(theirs.named_parameters())
    for k, p in ours.named_parameters(): torch.testing.assert_close(p.grad, grads[k].grad, atol=1e-5, rtol=1e-4, msg=k)

vocab = ['xxunk', 'xxpad', 'xxbos', 'good', 'bad', 'film']
codec = Codec(words, vocab)

@pytest.mark.parametrize('backwards', [False, True])
def test_answers_come_in_the_order_of_the_texts(backwards):
    torch.manual_seed(0)
    m = get_text_classifier(AWD_LSTM, len(vocab), 2, seq_len=5, config=config)
    texts = [('good '*(i*7%13) + 'bad film').strip() for i in range(50)]
    probs = classify(m, texts, codec, backwards=backwards, bs=8)
    for i in (0, 7, 31, 49):
        torch.testing.assert_close(probs[i:i+1], classify(m, texts[i:i+1], codec, backwards=backwards),
                                   atol=1e-5, rtol=1e-5)
    assert m.training and probs.shape == (50, 2)

def test_an_average_of_two_models():
    ms = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        ms.append(get_text_classifier(AWD_LSTM, len(vocab), 2, seq_len=5, config=config))
    texts = ['good film', 'bad', 'bad bad film']
    a, b = (classify(m, texts, codec, backwards=w) for m, w in zip(ms, (False, True)))
    torch.testing.assert_close(classify(ms, texts, codec, backwards=[False, True]), (a + b)/2)
    with pytest.raises(ValueError, match='one for each model'): classify(ms, texts, codec, backwards=[True])

def test_saliency_is_the_gradient():
    "For a step so small that the model is a straight line, the logit changes by what saliency says."
    torch.manual_seed(0)
    m = get_text_classifier(AWD_LSTM, len(vocab), 2, seq_len=3, config=config).double()
    s = saliency(m, 'a good good film and a bad end', codec, ['no', 'yes'])
    assert len(s.tokens) == len(s.scores) == 8 and m.training
    m.eval()
    x = class_dl(['a good good film and a bad end'], codec=codec, device='cpu').one_batch()[0]
    i, e = ['no', 'yes'].index(s.answer), 1e-6
    with torch.no_grad():
        before = m(x)[0][0, i].item()
        m[0].module.encoder.weight[4] *= 1 + e
        after = m(x)[0][0, i].item()
    assert (after - before)/e == pytest.approx(s.scores[s.tokens.index('bad')].item(), rel=1e-3)

def test_html_is_escaped(): assert '<b>' not in Saliency(['<b>'], torch.tensor([1.]).numpy(), '<b>', .5)._repr_html_()

@pytest.mark.parametrize('kw, words', [(dict(labels=['x']), 'one label for each'), (dict(labels=['x', 'z']), "'z'")])
def test_labels_that_do_not_fit(kw, words):
    with pytest.raises(ValueError, match=words): class_dl(['good', 'bad'], codec=codec, classes=['x', 'y'], **kw)

@pytest.mark.parametrize('kw, ps', [(dict(), [.4, .1]), (dict(drop_mult=.5), [.2, .1]),
    (dict(lin_ftrs=[9, 7]), [.4, .1, .1]), (dict(lin_ftrs=[]), [.4]), (dict(ps=[.3]), [.4, .3])], ids=str)
def test_dropout_of_the_head_is_fastais(kw, ps):
    "No run on small data shows a default that has changed."
    ours, theirs = (get_text_classifier(AWD_LSTM, 20, 2, config=config, **kw),
                    ft.get_text_classifier(ft.AWD_LSTM, 20, 2, config=dict(config), **kw))
    for m in (ours, theirs):
        assert [o.p for o in m[1].layers.modules() if isinstance(o, torch.nn.Dropout)] == pytest.approx(ps)


@pytest.mark.parametrize('bidir', [False, True])
@pytest.mark.parametrize('ids', [[[1, 1], [3, 4]], [[1, 1]]], ids=['one', 'all'])
def test_no_documents_of_padding_alone(bidir, ids):
    m = get_text_classifier(AWD_LSTM, 40, 3, seq_len=5, config=config | dict(bidir=bidir)).eval()
    with pytest.raises(ValueError, match='padding only: each document needs'): m(torch.tensor(ids))

# asking

other_vocab = ['xxunk', 'good', 'xxpad', 'bad', 'film', 'xxbos']       # padding is not id 1
other = Codec(words, other_vocab)
texts = [('good ' if i % 2 else 'bad ')*(i % 3 + 1) + 'film' for i in range(41)]
sides = ['pos' if i % 2 else 'neg' for i in range(41)]

def learner(labels=sides, codec=codec, bs=8, **kw):
    ft.set_seed(0)
    dls = class_dataloaders(texts, labels, codec, bs=bs, device='cpu')
    return text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, drop_mult=0., **kw)

def fit(learn, epochs=25, lr=1e-2):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr)
    return learn

@pytest.fixture(scope='module')
def trained(): return fit(learner())

def test_one_document_left_over_can_be_trained_on():
    learn = learner(bs=4)
    assert len(learn.dls.train_ds) % 4 == 1
    fit(learn, 1)

@pytest.mark.parametrize('labels, loss, kw', [
    ([[o] + ['long']*(len(t) > 9) for t, o in zip(texts, sides)], 'BCEWithLogitsLoss', {}),
    ([float(o == 'pos') for o in sides], 'MSELoss', dict(y_range=(-.2, 1.2))),
    ([float(o == 'pos') for o in sides], 'MSELoss', {})])
def test_the_loss_comes_from_the_data(labels, loss, kw):
    learn = learner(labels, **kw)
    assert type(learn.loss_func.func).__name__ == loss
    before = learn.validate()[0]
    assert fit(learn, 40).validate()[0] < 0.6*before
    p = classify(learn, ['good film', 'bad film'])
    if loss == 'MSELoss':
        assert p.shape == (2, 1) and p[0] > p[1] + 0.2
        with pytest.raises(ValueError, match='predicts a number'): saliency(learn, 'good film')
        # numbers, and not always 1
        torch.testing.assert_close(classify(learn.model, ['good film', 'bad film'], codec), p)
    else: assert p.shape == (2, 3) and (p > .5).tolist() != [[False]*3]*2 and p[0, 2] > p[0, 1]  # long, neg, pos

def test_the_fallback_is_cross_entropy():
    dl = ft.TfmdDL([(torch.tensor([2, 3]), torch.tensor(0))]*4, bs=2)
    dls = ft.DataLoaders(dl, dl)
    dls.vocab, dls.c = [vocab, ['a', 'b']], 2
    assert type(text_classifier_learner(dls, AWD_LSTM, config=config,
                                        pretrained=False).loss_func).__name__ == 'CrossEntropyLossFlat'
    mine = ft.LabelSmoothingCrossEntropyFlat()
    assert learner(loss_func=mine).loss_func is mine

def test_fastais_contract(trained, tmp_path, capsys):
    label, number, p = trained.predict('good good film')
    torch.testing.assert_close(p, classify(trained, ['good good film'])[0])
    assert label == 'pos' and number == 1
    trained.show_results(max_n=3)
    trained.dls.show_batch(max_n=2)
    interp = ft.ClassificationInterpretation.from_learner(trained)
    assert interp.confusion_matrix().sum() == len(trained.dls.valid_ds)
    interp.plot_top_losses(2)
    shown = capsys.readouterr().out
    assert 'HTML' not in shown and 'category_' in shown and 'probability' in shown
    trained.path = tmp_path
    trained.export('clas.pkl')
    back = ft.load_learner(tmp_path/'clas.pkl')
    torch.testing.assert_close(back.predict('good good film')[2], p)
    torch.testing.assert_close(classify(back, texts[:5]), classify(trained, texts[:5]))
    probs, _ = back.get_preds(dl=back.dls.test_dl(texts[:5]))
    torch.testing.assert_close(probs, classify(trained, texts[:5]))

def test_a_learner_is_enough(trained):
    torch.testing.assert_close(classify(trained, texts), classify(trained.model, texts, codec))
    assert (saliency(trained, 'good film').answer
            == saliency(trained.model, 'good film', codec, ['neg', 'pos']).answer == 'pos')

@pytest.mark.parametrize('args, err, match', [
    (([], texts, codec), ValueError, 'models is empty'),
    ((3, texts, codec), TypeError, 'got a int'),
    ((None, 'good', codec), TypeError, 'list of texts'),
    ((None, dict(text=texts), codec), TypeError, 'one column'),
    ((None, texts), TypeError, 'pass codec'),
    ((None, texts, vocab), TypeError, r'Codec\(tok, vocab\)'),
    ((None, texts, Codec(words, vocab + ['more'])), ValueError, 'the model 6'),
    ((None, texts, Codec(words, ['xxunk', 'good', 'xxpad', 'bad', 'film', 'xxbos'])), ValueError,
        'pad_idx=codec.pad_id'),
    ((None, texts, codec, None, 0), ValueError, 'bs is 0')])
def test_what_cannot_be_asked(trained, args, err, match):
    with pytest.raises(err, match=match):
        classify(*(trained.model if o is None and i == 0 else o for i, o in enumerate(args)))

def test_no_texts_no_answers(trained): assert classify(trained, []).shape == (0, 2)

def test_padding_of_another_id():
    "The words with id 1 count, in training and in answers, and padding has no gradient."
    learn = fit(learner(codec=other))
    enc = learn.model[0]
    assert (enc.pad_idx, enc.module.encoder.padding_idx) == (2, 2)
    p = classify(learn, texts)
    assert [['neg', 'pos'][i] for i in p.argmax(1)] == sides
    torch.testing.assert_close(p[3:4], classify(learn, texts[3:4]), atol=1e-5, rtol=1e-5)

def test_four_threads_one_model(trained):
    from concurrent.futures import ThreadPoolExecutor
    alone = [classify(trained, [t]) for t in texts[:24]]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(lambda t: classify(trained, [t]), texts[:24])): torch.testing.assert_close(a, b)
        again = list(pool.map(lambda t: saliency(trained, t).scores, texts[:8]*3))
    for i, s in enumerate(again): assert (s == saliency(trained, texts[i % 8]).scores).all()

def test_fast_answers_are_close_and_leave_nothing_on(trained, monkeypatch):
    """`fast=True` answers in half precision, a little apart from what float32 says, and an interrupt does not leave it
    on."""
    monkeypatch.setattr('lesson8nlp.classifier.fast_dtype', lambda device: torch.bfloat16)  # on every processor
    exact, fast = classify(trained, texts[:40]), classify(trained, texts[:40], fast=True)
    assert fast.dtype == torch.float32 and 0 < (fast - exact).abs().max() < 0.03
    monkeypatch.setattr(trained.model[1], 'forward', lambda encoded: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): classify(trained, texts[:2], fast=True)
    assert not torch.is_autocast_enabled('cpu')


def test_modes_are_put_back(trained):
    m = trained.model.train()
    m[1].eval()
    classify(m, texts[:3], codec), saliency(m, texts[0], codec)
    assert m.training and m[0].training and not m[1].training

def test_models_with_other_labels_are_not_averaged(trained):
    "Answers are averaged by position: ['neg', 'pos'] and ['pos', 'neg'] would cancel out."
    from lesson8nlp.ulmfit import TextModel
    one, other = TextModel.from_learner(trained), TextModel(trained.model, codec, ['pos', 'neg'])
    with pytest.raises(ValueError, match=r"\['neg', 'pos'\] and \['pos', 'neg'\].*same labels in the same order"):
        classify([one, other], texts[:3])
    with pytest.raises(ValueError, match='different labels'):
        classify([one, learner([float(o == 'pos') for o in sides])], texts[:3])
    torch.testing.assert_close(classify([one, trained, trained.model], texts[:3], codec), classify(one, texts[:3]))
    several = TextModel(trained.model, codec, ['neg', 'pos'], activation='sigmoid')
    with pytest.raises(ValueError, match='one label, several labels, or numbers'): classify([one, several], texts[:3])

def test_saliency_has_a_name_for_each_output(trained):
    with pytest.raises(ValueError, match='1 classes for 2 outputs'): saliency(trained.model, texts[0], codec, ['x'])

@pytest.mark.parametrize('kind', ['several', 'tag', 'number', 'range'])
def test_a_saved_model_answers_as_its_learner(kind, tmp_path):
    """Labels that do not exclude each other were softmaxed after saving; a number came back as the probability of
    label 0; of a single tag that a text has or has not, it gave what goes into the sigmoid."""
    from lesson8nlp.ulmfit import TextModel
    labels = ([[o] + ['long']*(len(t) > 9) for t, o in zip(texts, sides)] if kind == 'several' else
              [['pos']*(o == 'pos') for o in sides] if kind == 'tag' else [4.*(o == 'pos') for o in sides])
    learn = fit(learner(labels, **(dict(y_range=(0, 5)) if kind == 'range' else {})), 15)
    m = TextModel.load(TextModel.from_learner(learn).save(tmp_path/'m', own_tok=True), 'cpu', tok=words)
    want = classify(learn, texts[:5])
    torch.testing.assert_close(classify(m, texts[:5]), want)
    df = m.predict(texts[:5], all_labels=True)
    if kind == 'several':
        assert (list(df) == ['text', 'labels', 'p(long)', 'p(neg)', 'p(pos)']
                and not torch.allclose(want.sum(1), torch.ones(5), atol=.1))
        assert df.labels.tolist() == [[o for o, v in zip(['long', 'neg', 'pos'], p) if v > .5] for p in want.tolist()]
        assert m.untrained().activation == m.activation == 'sigmoid'
        with pytest.raises(ValueError, match='can have several'): m.to_onnx(tmp_path/'m.onnx')
    elif kind == 'tag':
        assert df['p(pos)'].between(0, 1).all() and df.labels.tolist() == [['pos']*(v > .5) for v in want[:, 0]]
        assert saliency(m, texts[1]).answer == 'pos'
    else:
        assert list(df) == ['text', 'value'] and df.value.tolist() == pytest.approx(want[:, 0].tolist(), abs=1e-5)
        assert df.value[1] > df.value[0]


def test_a_language_model_is_no_classifier(tmp_path):
    """In any company, as a TextModel, a network or a learner: the message says what came in and what makes the right
    thing."""
    from lesson8nlp.ulmfit import TextModel
    from small_runs import learner, vocab
    learn = learner()
    lm = TextModel(learn.model, Codec(str.split, vocab))
    clf = TextModel(get_text_classifier(AWD_LSTM, len(vocab), 2, config=dict(emb_sz=8, n_hid=12, n_layers=1)), lm.codec)
    for models, what in (([clf, lm], 'a TextModel that is a language_model'), (lm, 'language_model'),
                         ([lm.model], 'SequentialRNN'), (learn, 'SequentialRNN'), (torch.nn.Linear(2, 2), 'Linear')):
        with pytest.raises(TypeError, match=f'Expected a text classifier.*got {what}|{what}.*train_classifier'):
            classify(models, ['w1 w2'], codec=lm.codec)
    with pytest.raises(TypeError, match='Expected a text classifier'): saliency(lm, 'w1 w2')
    assert classify([clf, clf], ['w1 w2']).shape == (1, 2)


def test_saliency_in_every_mode_and_of_fastais_encoder():
    "fastai's AWD_LSTM reads the weights of its embedding and never calls it; inference mode keeps no gradients."
    codec = Codec(str.split, ['xxunk', 'xxpad'] + [f'w{i}' for i in range(38)])
    for arch in (AWD_LSTM, ft.AWD_LSTM):
        torch.manual_seed(0)
        m = get_text_classifier(arch, 40, 3, config=config).eval()
        want = saliency(m, 'w1 w2 w3', codec)
        assert want.tokens == ['w1', 'w2', 'w3'] and abs(want.scores).min() > 0
        for mode in (torch.no_grad, torch.inference_mode):
            with mode(): assert (saliency(m, 'w1 w2 w3', codec).scores == want.scores).all()


def test_classifiers_with_several_labels_show_their_results(capsys):
    texts, codec = ([f'w{i % 7} w{i % 5} w{i % 3}' for i in range(40)],
                    Codec(str.split, ['xxunk', 'xxpad'] + [f'w{i}' for i in range(38)]))
    dls = class_dataloaders(texts, [['a'], ['a', 'b'], [], ['c']]*10, codec, bs=8, device='cpu')
    learn = text_classifier_learner(dls, AWD_LSTM, config=dict(emb_sz=8, n_hid=12, n_layers=1), pretrained=False)
    with learn.no_bar(): learn.show_results(max_n=3)
    dls.show_batch(max_n=3)
    shown = capsys.readouterr().out
    assert 'labels' in shown and 'labels_' in shown and 'w1' in shown


def test_loaders_refuse_what_the_codec_cannot_read():
    codec = Codec(str.split, ['xxunk', 'xxpad'] + [f'w{i}' for i in range(38)])
    with pytest.raises(ValueError, match='100% of the tokens of these texts are unknown'):
        class_dataloaders(['a b c d']*20, ['x', 'y']*10, codec)
    assert len(class_dl(['a b c d'], codec=codec)) == 1 # to predict, a single text may be strange


def test_batches_of_similar_lengths():
    "One book among 63 sentences made all of them as long as the book."
    from lesson8nlp.classifier import similar_lengths
    g = torch.Generator().manual_seed(0)
    for n in (0, 1, 7, 300):
        lens = (10**(torch.rand(n, generator=g)*5)).long().tolist()
        batches = similar_lengths(lens, 16)
        assert sorted(i for b in batches for i in b) == list(range(n)) and all(len(b) <= 16 for b in batches)
        order = [lens[i] for b in batches for i in b]
        assert order == sorted(order, reverse=True)
        for b in batches:
            size = len(b)*lens[b[0]]
            assert len(b) == 1 or size <= min(2*sum(lens[i] for i in b), 2**17)


def test_a_bidirectional_encoder_reads_no_padding():
    "Its way back began with the padding, so that an answer depended on the longest document of the batch."
    torch.manual_seed(0)
    m = get_text_classifier(AWD_LSTM, 40, 3, seq_len=5, config=config | dict(bidir=True)).eval()
    docs = [torch.randint(2, 40, (n,)) for n in (3, 17, 5, 17, 1, 5)]
    together = m(torch.nn.utils.rnn.pad_sequence(docs, True, padding_value=1))[0]
    alone = torch.cat([m(d[None])[0] for d in docs])
    assert torch.allclose(together, alone, atol=1e-5)
    m.train()
    m(torch.nn.utils.rnn.pad_sequence(docs, True, padding_value=1))[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())
