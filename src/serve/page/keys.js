// The keyboard: single keys that move between sections and go to what is asked for most. They can be turned off, since
// people who speak to their computer type single keys without meaning to.

import { at } from './draw.js';
import * as orders from './orders.js';
import * as visit from './visit.js';

const STILL = matchMedia('(prefers-reduced-motion: reduce)');

function sections() {
  return [...document.querySelectorAll('main > section')].filter(section => !section.hidden);
}

function go(section) {
  section.focus({ preventScroll: true });
  section.scrollIntoView({ block: 'start', behavior: STILL.matches ? 'auto' : 'smooth' });
}

/** Where the reader is: in the section that has the focus, or the last one whose head is above the upper third. */
function place(all) {
  const focused = all.findIndex(section => section.contains(document.activeElement));
  if (focused >= 0) return focused;
  return all.findLastIndex(section => section.getBoundingClientRect().top < innerHeight / 3);
}

const actions = {
  j() {
    const all = sections();
    go(all[Math.min(all.length - 1, place(all) + 1)]);
  },
  k() {
    const all = sections();
    go(all[Math.max(0, place(all) - 1)]);
  },
  g() {
    go(sections()[0]);
    scrollTo({ top: 0, behavior: STILL.matches ? 'auto' : 'smooth' });
  },
  '/'() {
    if (!at('searches').hidden) at('prefix').focus();
  },
  o() {
    go(at('orders'));
    orders.newest();
  },
  v() {
    go(at('visit'));
    visit.another();
  },
};

/** Listens to keys. */
export function keys() {
  const dialog = at('keys');
  at('keys-open').addEventListener('click', () => dialog.showModal());
  document.addEventListener('keydown', event => {
    const writes = event.target.matches('input:not([type=radio]):not([type=checkbox]), textarea, select');
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || writes || dialog.open) return;
    if (event.key === '?') {
      event.preventDefault();
      dialog.showModal();
    } else if (Object.hasOwn(actions, event.key) && at('keys-on').checked) {
      event.preventDefault();
      actions[event.key]();
    }
  });
}
