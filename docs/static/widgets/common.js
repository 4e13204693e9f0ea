// What the widgets of this site share. Each takes the place of a static picture that is there without JavaScript.
window.lesson8nlp = (() => {
  const SVG = 'http://www.w3.org/2000/svg';
  function el(tag, attrs = {}, ...kids) {
    const e = tag.startsWith('svg:') ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [k, v] of Object.entries(attrs)) {
      if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
      else if (v !== null && v !== undefined && v !== false) e.setAttribute(k, v === true ? '' : v);
    }
    e.append(...kids.flat().filter(k => k !== null && k !== undefined));
    return e;
  }
  function slider(text, value, min, max, change) {
    const out = el('output', {}, String(value));
    const input = el('input', { type: 'range', min, max, value, 'aria-label': text,
      oninput: () => { out.textContent = input.value; change(+input.value); } });
    return el('label', {}, text, input, out);
  }
  function half(h) {
    const s = h >> 15 ? -1 : 1, e = h >> 10 & 31, f = h & 1023;
    return e ? s * 2 ** (e - 15) * (1 + f / 1024) : s * 2 ** -14 * f / 1024;
  }
  function halves(base64) {   // numbers of half precision
    const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => half(bytes[2 * i] | bytes[2 * i + 1] << 8));
  }
  const mount = (name, draw) => document.querySelectorAll(`[data-widget="${name}"]`).forEach(box => {
    draw(box);
    box.dataset.ready = 'yes';
  });
  const start = (name, draw) => document.readyState === 'loading' ?
    addEventListener('DOMContentLoaded', () => mount(name, draw)) : mount(name, draw);
  return { el, slider, halves, start };
})();
