// One visit, followed while it goes on: its pages one below the other, on each what was shown as squares, those that
// were chosen filled, and what the visitor did. Until it ends, and why.

import { at, el, keep, say, soon } from './draw.js';
import { question, stream } from './wire.js';
import { clock, country, duration, effect, many, money, the } from './words.js';

/** Only so many pages of a long visit are drawn, and so many squares of a long page. */
const PAGES = 25;
const SQUARES = 120;
const ENDS = { inactivity: 'nothing came for as long as a visit may pause', length: 'it became as long as a visit may be', size: 'it became as large as a visit may be' };
/** How long an ended visit stays before another one is followed, unless somebody picked it. */
const STAY = 15_000;

let follower;
let open = [];
let followed = null;
let visit = null;
let end = null;
let picked = false;
let timer = 0;

/** Follows a visit by its ID. */
function follow(id) {
  clearTimeout(timer);
  followed = id;
  visit = null;
  end = null;
  at('story').replaceChildren(el('p', { class: 'empty' }, 'Waiting for what it did so far.'));
  follower.to(`/visits/${encodeURIComponent(id)}/changes`);
  soon(drawList);
}

/** Follows another of those that are open: the one that has done most. */
export function another() {
  const others = open.filter(each => each.visit_id !== followed);
  const next = others.toSorted((a, b) => b.measurements - a.measurements)[0];
  picked = false;
  if (next) follow(next.visit_id);
}

const short = id => String(id).slice(0, 8);

function drawList() {
  keep(at('visits-list'), open, each => each.visit_id, each =>
    el('li', {}, el('button', { type: 'button', onclick: () => { picked = true; follow(each.visit_id); } },
      el('time'), el('b'), el('span', { class: 'pick-more' }))),
  (item, each) => {
    const [time, place, more] = item.firstChild.children;
    say(time, clock(each.started));
    say(place, country(each.country));
    say(more, [many(each.measurements, 'measurement'), each.orders ? many(each.orders, 'order') : null].filter(Boolean).join(' · '));
    item.firstChild.setAttribute('aria-pressed', String(each.visit_id === followed));
  });
}

// --- The story of a visit

/** Pages, each with what was shown there and what was done there. A thing shown belongs to the page that caused it,
    directly or through a block; what has no page known belongs to the one before. */
function story(facts) {
  const byId = new Map(facts.map(fact => [fact.event_id, fact]));
  const causes = new Set(facts.map(fact => fact.cause).filter(Boolean));
  const pages = [];
  const byPage = new Map();
  const pageOf = fact => {
    let at = fact;
    for (let n = 0; n < 8 && at; n++) {
      if (byPage.has(at.event_id)) return byPage.get(at.event_id);
      at = byId.get(at.cause);
    }
    return pages.at(-1);
  };
  for (const fact of facts) {
    if (fact.effect === 'shown' && fact.entity === 'page') {
      const page = { fact, things: [], acts: [] };
      pages.push(page);
      byPage.set(fact.event_id, page);
      continue;
    }
    let page = pageOf(fact);
    if (!page) {
      page = { fact: null, things: [], acts: [] };
      pages.push(page);
    }
    if (fact.effect === 'shown') page.things.push({ fact, chosen: causes.has(fact.event_id) && fact.entity !== 'block' });
    else page.acts.push(fact);
  }
  return pages;
}

const what = fact => [fact.entity, fact.entity_id].filter(Boolean).join(' ');

function drawVisit() {
  if (!visit) return;
  const place = at('story');
  if (!place.querySelector('header')) {
    place.replaceChildren(
      el('header', {}, el('h3'), el('p', { class: 'order-state' })),
      el('p', { class: 'note earlier' }), el('ol', { class: 'story' }),
      el('p', { class: 'story-end', role: 'status' }),
      el('button', { type: 'button', class: 'another', onclick: another }, 'Follow another visit'));
  }
  const [header, earlier, list, last] = place.children;
  const pages = story(visit.facts);
  const shown = pages.slice(-PAGES);
  const [title, state] = header.children;
  say(title, `${visit.agent === 'person' ? 'Somebody' : `A ${visit.agent}`} from ${visit.country ? the(visit.country) : 'an unknown country'}`);
  say(state, `visit ${short(visit.visit_id)}, began ${clock(visit.started)}, ${many(pages.length, 'page')} and ${many(visit.measurements, 'measurement')} in ${duration(visit.last_seen - visit.started)}${visit.orders ? `, ${many(visit.orders, 'order')}` : ''}`);
  say(earlier, pages.length > PAGES ? `${many(pages.length - PAGES, 'page')} before these` : '');
  earlier.hidden = pages.length <= PAGES;
  keep(list, shown, page => page.fact?.event_id ?? 'before', () =>
    el('li', {}, el('time'), el('div', {}, el('p', { class: 'story-page' }), el('div', { class: 'squares', role: 'img' }), el('ul', { class: 'acts' }))),
  (item, page) => {
    const [time, body] = item.children;
    const [words, squares, acts] = body.children;
    const began = page.fact ?? page.things[0]?.fact ?? page.acts[0];
    say(time, clock(began.time));
    say(words, page.fact ? `${page.fact.entity_id ?? 'a page'}` : 'before its first page');
    words.dataset.reason = page.fact?.reason ?? '';
    const things = page.things.slice(0, SQUARES);
    squares.hidden = things.length === 0;
    squares.setAttribute('aria-label', `${many(page.things.length, 'thing')} shown, ${page.things.filter(each => each.chosen).length} chosen`);
    keep(squares, things, thing => thing.fact.event_id, thing => el('i', { title: [what(thing.fact), thing.fact.reason].filter(Boolean).join(', ') }),
      (square, thing) => { square.className = thing.chosen ? 'chosen' : thing.fact.entity === 'banner' ? 'banner' : ''; });
    keep(acts, page.acts, act => act.event_id, act =>
      el('li', { class: act.effect === 'ordered' ? 'act ordered' : 'act' }, el('span', { class: 'note' }, clock(act.time)), ' ', effect(act.effect), ' ', el('b', {}, what(act)), act.value ? ` ${money(act.value)}` : ''), () => {});
  });
  say(last, end ? `The visit is over, by ${end.reason}: ${ENDS[end.reason] ?? 'it has ended'}. Known at tick ${clock(end.tick, 1)}.` : '');
  last.hidden = !end;
  list.classList.toggle('going', !end);
}

/** Starts to ask, and to follow. */
export function start() {
  follower = stream(at('visit'), null, {
    visit(said) {
      if (said.visit_id !== followed) return;
      visit = said;
      soon(drawVisit);
    },
    end(said) {
      if (said.visit_id !== followed) return;
      end = said;
      follower.to(null);
      soon(drawVisit);
      if (!picked) timer = setTimeout(another, STAY);
    },
  }, { refused: another });
  question(at('visit'), () => '/visits?limit=10&agent=person', answer => {
    open = answer.visits;
    soon(drawList);
    if (!followed) another();
  }, { every: 2_000, refused: () => { at('visit').hidden = true; } });
}
