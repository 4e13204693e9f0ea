// The text rules and spaCy's way of cutting words, in the browser. tests/test_docs.py proves them equal to the Python
// ones.
(() => {
  const { el, start } = lesson8nlp, data = lesson8nlp.rulesData;
  const W = '[\\p{L}\\p{N}_]', notW = '[^\\p{L}\\p{N}_]',
    S = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]',
    notS = S.replace('[', '[^');
  const chars = s => Array.from(s).length;
  const trim = s => s.replace(new RegExp(`^${S}+|${S}+$`, 'gu'), '');
  const isSpace = c => new RegExp(`^${S}$`, 'u').test(c);

  const scraps = [['#39;', "'"], ['amp;', '&'], ['#146;', "'"], ['nbsp;', ' '], ['#36;', '$'], ['\\n', '\n'],
    ['quot;', "'"], ['<br />', '\n'], ['\\"', '"'], ['<unk>', 'xxunk'], [' @.@ ', '.'], [' @-@ ', '-'], ['...', ' …']];
  const area = document.createElement('textarea');
  function entity(m) {   // as html.unescape: the browser knows the same table
    const n = /^&#([xX]?)([0-9a-fA-F]+)/.exec(m);
    if (n) {
      const c = parseInt(n[2], n[1] ? 16 : 10);
      if (c === 13) return '\r';
      if (c < 9 || c === 11 || (c > 13 && c < 32) || c === 127 || [129, 141, 143, 144, 157].includes(c))
        return c === 0 ? '\ufffd' : c < 128 ? '' : String.fromCharCode(c);
      if ((c >= 0xfdd0 && c <= 0xfdef) || (c <= 0x10ffff && (c & 0xfffe) === 0xfffe)) return '';
    }
    area.innerHTML = m.startsWith('\n') ? '\n' + m : m;
    return area.value;
  }
  const unescape = t => t.replace(/&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu, entity);
  const marked = tag => m => (chars(m) > 1 ? tag + ' ' : '') + m.toLowerCase();

  const rules = {
    fix_html: t => unescape(scraps.reduce((s, [a, b]) => s.replaceAll(a, b), t)),
    replace_rep: t => t.replace(new RegExp(`(${notS})\\1\\1+`, 'gu'), (m, c) => ` xxrep ${chars(m)} ${c} `),
    replace_wrep: t => t.replace(new RegExp(`(?:^|${S})(${W}+)((?:${S}+\\1){2,})(${notW}|$)`, 'gu'),
      (m, w, rest, end) => ` xxwrep ${rest.split(new RegExp(`${S}+`, 'u')).filter(Boolean).length + 1} ${w} ${end}`),
    spec_add_spaces: t => t.replace(/[/#\\]/g, ' $& '),
    rm_useless_spaces: t => t.replace(/ {2,}/g, ' '),
    replace_all_caps: t =>
      t.replace(new RegExp(`(?<!${notS})[A-Z](?:(?![a-z])${notS})*(?!${notS})`, 'gu'), marked('xxup')),
    replace_maj: t =>
      t.replace(new RegExp(`(?<!${notS})[A-Z](?:(?![A-Z])${notS})*(?!${notS})`, 'gu'), marked('xxmaj')),
    lowercase: t => 'xxbos ' + trim(t.toLowerCase()),
  };

  const rx = Object.fromEntries(['prefix', 'suffix', 'infix', 'url'].map(k =>
    [k, new RegExp(data[k], k === 'infix' ? 'gu' : 'u')]));
  const special = new Map(Object.entries(data.special));
  const len = (r, s) => { const m = r.exec(s); return m ? m[0].length : 0; };

  function word(s, useSpecial, why) {   // one piece between white space -> tokens
    const pre = [], suf = [], note = (how, t) => why && why.push([how, t]);
    let last = -1;
    const known = t => useSpecial && special.has(t);
    while (s && s.length !== last && !known(s)) {
      last = s.length;
      const p = len(rx.prefix, s);
      if (p && p < s.length && known(s.slice(p))) {
        pre.push(s.slice(0, p));
        note('prefix', s.slice(0, p));
        s = s.slice(p);
        break;
      }
      const q = len(rx.suffix, s.slice(p));
      if (q && q < s.length && known(s.slice(0, -q))) {
        suf.push(s.slice(-q));
        note('suffix', s.slice(-q));
        s = s.slice(0, -q);
        break;
      }
      if (p) { pre.push(s.slice(0, p)); note('prefix', s.slice(0, p)); }
      if (q && (p + q <= s.length)) {
        suf.push(s.slice(-q));
        note('suffix', s.slice(-q));
        s = s.slice(p, s.length - q);
      }
      else if (p) s = s.slice(p);
    }
    const mid = [];
    if (s) {
      if (known(s)) {
        mid.push(...special.get(s));
        if (special.get(s).length > 1) note('exception', special.get(s).join(' '));
      }
      else if (rx.url.test(s)) mid.push(s);
      else {
        let from = 0;
        for (const m of s.matchAll(rx.infix)) {
          if (m.index === 0) continue;
          if (m.index !== from) mid.push(s.slice(from, m.index));
          if (m[0]) { mid.push(m[0]); note('infix', m[0]); }
          from = m.index + m[0].length;
        }
        if (from < s.length) mid.push(s.slice(from));
      }
    }
    return [...pre, ...mid, ...suf.reverse()];
  }
  const phrases = data.phrases.map(t => [t, word(t, false)]).filter(([, toks]) => toks.length);

  function cut(text, why) {   // white space and words in turn; a single space between words is no token
    const pieces = [];   // [token, follows a space?]
    let space = false;
    for (const m of text.matchAll(new RegExp(`${S}+|${notS}+`, 'gu'))) {
      let t = m[0];
      if (isSpace(Array.from(t)[0])) {
        if (t[0] === ' ' && m.index > 0) { space = true; t = t.slice(1); }
        if (!t) continue;
        if (special.has(t)) special.get(t).forEach(o => { pieces.push([o, space]); space = false; });
        else { pieces.push([t, space]); space = false; }
        continue;
      }
      for (const o of special.has(t) ?
        (why && special.get(t).length > 1 && why.push(['exception', special.get(t).join(' ')]), special.get(t)) :
        word(t, true, why)) { pieces.push([o, space]); space = false; }
    }
    return merge(pieces);
  }
  function merge(pieces) {   // exceptions that hold punctuation, like :-), are found again among the finished tokens
    const found = [], taken = new Set();
    pieces.forEach((_, i) => phrases.forEach(([t, toks]) => {
      if (toks.every((o, j) => pieces[i + j] && pieces[i + j][0] === o)) found.push([i, i + toks.length, t]);
    }));
    found.sort((a, b) => (b[1] - b[0]) - (a[1] - a[0]) || a[0] - b[0]);
    const by = new Map();
    for (const [a, b, t] of found) {
      if (!taken.has(a) && !taken.has(b - 1)) by.set(a, [b, t]);
      for (let i = a; i < b; i++) taken.add(i);
    }
    const out = [];
    for (let i = 0; i < pieces.length;) {
      const hit = by.get(i);
      if (!hit) { out.push(pieces[i++][0]); continue; }
      const glued = pieces.slice(i + 1, hit[0]).every(p => !p[1]);
      if (glued && special.has(hit[1])) out.push(...special.get(hit[1]));
      else out.push(...pieces.slice(i, hit[0]).map(p => p[0]));
      i = hit[0];
    }
    return out;
  }
  function run(text, why) {
    const steps = [];
    for (const [name, f] of Object.entries(rules)) { text = f(text); steps.push([name, text]); }
    return { steps, tokens: cut(text, why).map(t => t.replaceAll(' ', '▁')) };
  }
  Object.assign(lesson8nlp, { rules, cut, tokenize: t => run(t).tokens });

  // the pieces of `after` that are not in `before`, marked: the longest common subsequence
  function changed(before, after) {
    const cutUp = s => s.match(/[\p{L}\p{N}_]+| +|[^]/gu) || [],
      a = cutUp(before), b = cutUp(after), n = a.length, m = b.length;
    if (n * m > 250000) return [after];
    const t = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
    for (let i = n - 1; i >= 0; i--)
      for (let j = m - 1; j >= 0; j--)
        t[i][j] = a[i] === b[j] ? t[i + 1][j + 1] + 1 : Math.max(t[i + 1][j], t[i][j + 1]);
    const out = [];
    for (let i = 0, j = 0; j < m;) {
      if (i < n && a[i] === b[j]) { out.push([b[j++], false]); i++; }
      else if (i < n && t[i + 1][j] >= t[i][j + 1]) i++;
      else out.push([b[j++], true]);
    }
    return out.map(([s, isNew]) => isNew ? el('mark', {}, s) : s);
  }
  const show = s => s.replaceAll('\n', '⏎\n');
  function draw(box) {
    const first = box.dataset.text, steps = el('ol', { class: 'w-steps' }),
      toks = el('ul', { class: 'w-tokens', 'aria-label': 'tokens' }), cuts = el('p', { class: 'w-note' });
    const input = el('input', { type: 'text', value: first, 'aria-label': 'A sentence to tokenize', spellcheck: 'false',
      autocomplete: 'off', oninput: () => update(input.value) });
    const examples = data.examples.map(t => el('button',
      { type: 'button', onclick: () => { input.value = t; update(t); } }, t.length > 26 ? t.slice(0, 25) + '…' : t));
    function update(text) {
      const why = [], r = run(text, why);
      let before = text;
      steps.replaceChildren(...r.steps.map(([name, after]) => {
        const same = after === before, li = el('li', { class: same ? 'same' : '' },
          el('a', { href: `${box.dataset.reference}#${name}` }, el('code', {}, name)),
          el('span', { class: 'w-text' }, same ? 'nothing to do' : changed(show(before), show(after))));
        before = after;
        return li;
      }));
      toks.replaceChildren(...r.tokens.map(t =>
        el('li', { class: /^xx(bos|maj|up|rep|wrep|unk)$/.test(t) ? 'special' : '' }, t.replace(/\n/g, '⏎'))));
      cuts.textContent = `${r.tokens.length} tokens. ` + (why.length ?
        'Cut off by spaCy: ' + why.slice(0, 12).map(([how, t]) => `${t} (${how})`).join(', ') + '.' :
        'Every piece between spaces is one token.');
    }
    box.replaceChildren(el('p', { class: 'w-title' }, 'Type a sentence, and watch each rule'), input,
      el('p', { class: 'w-examples' }, ...examples.flatMap(b => [b, ' '])), steps,
      el('p', { class: 'w-title', style: 'margin-top:.8rem' }, 'then spaCy cuts it into tokens'), toks, cuts,
      el('p', { class: 'w-note' }, box.dataset.note));
    update(first);
  }
  start('rules', draw);
})();
