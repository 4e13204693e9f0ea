// An LSTM reads numbers: the hidden state after each word, calculated here from the trained weights.
(() => {
  const { el, halves, start } = lesson8nlp, d = lesson8nlp.stateData, H = d.n_hidden;
  const flat = halves(d.weights);
  const p = {};
  let at = 0;
  for (const [name, shape] of d.params) {
    const n = shape.reduce((a, b) => a * b);
    p[name] = flat.subarray(at, at + n);
    at += n;
  }
  const sigmoid = x => 1 / (1 + Math.exp(-x));
  const times = (m, v, rows) => Array.from({ length: rows }, (_, i) => {
    let s = 0;
    for (let j = 0; j < v.length; j++) s += m[i * v.length + j] * v[j];
    return s;
  });
  function read(tokens) {   // -> for each token the state h and the probabilities of the next token
    let h = Array(H).fill(0), c = Array(H).fill(0);
    return tokens.map(t => {
      const k = d.vocab.indexOf(t), x = p['i_h.weight'].subarray(k * H, (k + 1) * H);
      const a = times(p['rnn.weight_ih_l0'], x, 4 * H), b = times(p['rnn.weight_hh_l0'], h, 4 * H);
      const g = a.map((v, i) => v + b[i] + p['rnn.bias_ih_l0'][i] + p['rnn.bias_hh_l0'][i]);
      c = c.map((v, i) => sigmoid(g[H + i]) * v + sigmoid(g[i]) * Math.tanh(g[2 * H + i]));
      h = c.map((v, i) => sigmoid(g[3 * H + i]) * Math.tanh(v));
      const z = times(p['h_o.weight'], h, d.vocab.length).map((v, i) => v + p['h_o.bias'][i]),
        top = Math.max(...z), e = z.map(v => Math.exp(v - top)), sum = e.reduce((u, v) => u + v);
      return { h: h.slice(), p: e.map(v => v / sum) };
    });
  }
  Object.assign(lesson8nlp, { readState: read });
  const known = new Set(d.vocab);
  function colour(v) {
    const a = Math.min(1, Math.abs(v));
    return `color-mix(in srgb, var(${v < 0 ? '--w-1' : '--w-2'}) ${Math.round(a * 100)}%, var(--w-bg))`;
  }
  function picture(tokens, steps, pick) {
    const w = 46, r = 9, left = 8, svg = el('svg:svg', {
      viewBox: `0 0 ${left + tokens.length * w + 8} ${H * r + 44}`, role: 'img',
      'aria-label': `Hidden state of ${H} units after each of ${tokens.length} words`,
      style: `min-width:${tokens.length * 34}px;max-width:${left + tokens.length * w + 8}px` });
    tokens.forEach((t, j) => {
      const g = el('svg:g', { style: 'cursor:pointer', onmouseenter: () => pick(j) });
      steps[j].h.forEach((v, i) => g.append(el('svg:rect',
        { x: left + j * w, y: i * r, width: w - 3, height: r - 1, style: `fill:${colour(v)}` },
        el('svg:title', {}, `unit ${i}: ${v.toFixed(2)}`))));
      g.append(el('svg:text',
        { x: left + j * w + w / 2 - 1, y: H * r + 16, 'text-anchor': 'end', 'font-size': 11,
          transform: `rotate(-32 ${left + j * w + w / 2} ${H * r + 14})` }, t));
      svg.append(g);
    });
    return svg;
  }
  function draw(box) {
    const first = box.dataset.text, pic = el('div', { class: 'w-scroll' }), say = el('p', { 'aria-live': 'polite' }),
      warn = el('p', { class: 'w-note' });
    const input = el('input', { type: 'text', value: first, 'aria-label': 'Numbers in words, for the model to read',
      spellcheck: 'false', autocomplete: 'off', oninput: () => update(input.value) });
    function update(text) {
      const words = text.toLowerCase().replace(/\./g, ' . ').split(/\s+/).filter(Boolean),
        unknown = words.filter(t => !known.has(t)), toks = words.filter(t => known.has(t)).slice(-24);
      warn.textContent = unknown.length ?
        `Left out, not among the ${d.vocab.length} words of Human Numbers: ${[...new Set(unknown)].join(', ')}.` : '';
      if (!toks.length) {
        pic.replaceChildren();
        say.textContent = 'Type numbers in words, such as: nine hundred seven .';
        return;
      }
      const steps = read(toks);
      const pick = j => {
        const best = steps[j].p.map((v, i) => [v, d.vocab[i]]).sort((a, b) => b[0] - a[0]).slice(0, 3);
        say.replaceChildren(`After `, el('strong', {}, toks.slice(Math.max(0, j - 3), j + 1).join(' ')),
          ' the model expects ', ...best.flatMap(([v, t], i) =>
            [i ? ', ' : '', el('strong', {}, t), ` (${Math.round(v * 100)} %)`]), '.');
      };
      pic.replaceChildren(picture(toks, steps, pick));
      pick(toks.length - 1);
    }
    box.replaceChildren(el('p', { class: 'w-title' }, 'Type numbers in words, and watch the state of the LSTM'), input,
      pic, say, warn, el('p', { class: 'w-note' }, box.dataset.note));
    update(first);
  }
  start('state', draw);
})();
