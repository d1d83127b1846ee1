// How the page is drawn: elements of text, never of markup, so that a name from a shop is only ever a name; lists that
// keep their elements; and one queue of drawings, which stands still while nobody looks.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style') Object.entries(value).forEach(([key, to]) => element.style.setProperty(key, to));
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined));
  return element;
}

/** An element; strings among the children become text. */
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** The same for SVG. */
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const at = id => document.getElementById(id);

/** Sets a text if it is another one: what is selected or read aloud stays undisturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes a parent's children those of `items`, in order, keeping the elements of the same key, so that what has the
    focus keeps it and widths move instead of jumping. */
export function keep(parent, items, key, make, update) {
  const before = new Map([...parent.children].map(child => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = before.get(name);
    before.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  before.forEach(child => child.remove());
}

const waiting = new Set();

/** Draws before the next frame, once however often it is asked for. Browsers have no frames for hidden pages. */
export function soon(drawing) {
  if (waiting.size === 0) {
    requestAnimationFrame(() => {
      const drawings = [...waiting];
      waiting.clear();
      drawings.forEach(each => each());
    });
  }
  waiting.add(drawing);
}

/** Draws again when the element's width changes. */
export function onwidth(element, drawing) {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth !== width) {
      width = element.clientWidth;
      soon(drawing);
    }
  }).observe(element);
}

/** A ranked list: each row {key, label, value, text, note, mark}, its bar as long as its value, a line at `mark`. */
export function bars(list, rows, { top, nothing = 'Nothing yet.' } = {}) {
  const greatest = top ?? Math.max(1, ...rows.flatMap(row => [row.value, row.mark ?? 0]));
  const share = value => `${Math.max(0, Math.min(100, (100 * value) / greatest)).toFixed(2)}%`;
  list.classList.toggle('nothing', rows.length === 0);
  list.dataset.nothing = nothing;
  keep(list, rows, row => row.key, () =>
    el('li', {},
      el('span', { class: 'bar-label' }), el('span', { class: 'bar-value' }),
      el('span', { class: 'bar-track', 'aria-hidden': 'true' }, el('i', { class: 'bar-fill' }), el('i', { class: 'bar-mark' })),
      el('span', { class: 'bar-note' })),
  (item, row) => {
    const [label, value, track, note] = item.children;
    say(label, row.label);
    label.title = row.label;
    say(value, row.text);
    say(note, row.note ?? '');
    note.hidden = !row.note;
    track.firstChild.style.width = share(row.value);
    track.lastChild.hidden = row.mark === undefined;
    track.lastChild.style.left = share(row.mark ?? 0);
  });
}

/** Shares of a whole: one bar in parts and a line of words for each; each part {key, label, value, kind}. */
export function shares(place, parts, words) {
  const all = parts.reduce((sum, part) => sum + part.value, 0);
  if (!place.firstChild) place.append(el('div', { class: 'share-bar', 'aria-hidden': 'true' }), el('ul', { class: 'share-words' }));
  const [bar, list] = place.children;
  keep(bar, parts, part => part.key, part => el('i', { class: `kind-${part.kind}` }), (item, part) => {
    item.style.flexGrow = String(all ? part.value / all : 1);
    item.hidden = all > 0 && part.value === 0;
  });
  keep(list, parts, part => part.key, part =>
    el('li', {}, el('i', { class: `sign kind-${part.kind}`, 'aria-hidden': 'true' }), el('span'), el('b'), el('span', { class: 'note' })),
  (item, part) => {
    say(item.children[1], part.label);
    say(item.children[2], words(part.value, all));
    say(item.children[3], part.note ?? '');
  });
}

/** A switch of radio buttons in a fieldset; calls `chosen` with the value, now and at each change. */
export function choice(fieldset, name, choices, chosen) {
  choices.forEach(([value, words], n) => {
    const input = el('input', { type: 'radio', name, value, id: `${name}-${value}` });
    input.checked = n === 0;
    input.addEventListener('change', () => chosen(value));
    fieldset.append(el('span', {}, input, el('label', { for: input.id }, words)));
  });
  chosen(choices[0][0]);
}

/** Says beside a view how far back it looks: after a heading, or as a sentence of its own. */
export function windowed(name, words) {
  for (const place of document.querySelectorAll(`[data-window="${name}"]`)) {
    const alone = words && place.closest('.deck');
    say(place, alone ? `${words[0].toUpperCase()}${words.slice(1)}.` : words);
  }
}
