// A made shop for the test of the live page: visitors who read, search, put into carts and order, and sums that move as
// a job's would. It shares nothing with the program, and knows nothing of HTTP. With `hostile` its names are markup.

import { createHash } from 'node:crypto';

let seed = 20_25;
const random = () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
};
const below = n => Math.floor(random() * n);
const pick = list => list[below(list.length)];
const id = text => createHash('md5').update(text).digest('hex');

const COUNTRIES = [['DE', 34], ['NL', 17], ['AT', 9], ['GB', 8], ['FR', 7], ['CH', 6], ['IT', 4], ['PL', 3], ['SE', 2], [null, 2]];
const CAMPAIGNS = ['campaign:spring', 'campaign:newsletter', 'campaign:sale', 'campaign:free-delivery'];
const BLOCKS = ['recommendation:also-bought', 'recommendation:similar', 'recommendation:bestsellers', 'recommendation:for-you'];
const WORDS = ['lamp', 'lamp shade', 'lantern', 'ladder', 'desk lamp', 'led strip', 'light bulb', 'armchair', 'oak table', 'rug', 'mirror', 'shelf'];
const country = () => {
  let at = below(92);
  return COUNTRIES.find(([, weight]) => (at -= weight) < 0)?.[0] ?? 'DE';
};

export class Shop {
  constructor({ hostile = false } = {}) {
    this.hostile = hostile;
    this.counts = { read: 246_318, tagged: 245_702, late: 461, rejected: 24, repeated: 131 };
    this.ended = { inactivity: 9_841, length: 12, size: 3 };
    this.begun = 11_560;
    this.made = 0;
    this.visits = [];
    this.orders = [];
    this.corrected = 0;
    this.trends = Array.from({ length: 24 }, (_, n) => ({ entity_id: `p${17 + n * 41}`, count: 4 + below(30), usual: 3 + below(18), browsers: 3 + below(20) }));
    this.shownOf = new Map();
    this.silent = false;
    for (let n = 0; n < 12; n++) this.enter(Date.now() - below(600_000));
    for (let n = 0; n < 900; n++) this.step(Date.now() - 90_000 + n * 100, true);
  }

  name(text) {
    return this.hostile ? `<img src=x onerror="window.hostile=1">${text}` : text;
  }

  /** The name of a fact, unlike all others. */
  event() {
    return id(`event ${this.made++}`);
  }

  enter(at) {
    const from = random() < 0.35 ? pick(CAMPAIGNS) : pick(['direct', 'external-search', 'affiliate']);
    const visit = {
      visit_id: id(`visit ${this.begun}`), browser_id: `b-${this.begun}`, started: at, last_seen: at, measurements: 0, country: country(),
      agent: 'person', customer_id: null, orders: 0, facts: [], next: at, left: 3 + below(9), page: null, links: [], last: null,
    };
    this.begun++;
    this.visits.unshift(visit);
    this.page(visit, at, null, from, from.startsWith('campaign') ? '/c/lamps' : pick(['/', `/p/p${below(900)}`]));
    return visit;
  }

  fact(visit, time, effect, entity, entity_id, reason, cause, value = null) {
    const fact = { event_id: this.event(), time, effect, entity, entity_id: entity_id && this.name(entity_id), reason: reason && this.name(reason), cause, value };
    visit.facts.push(fact);
    visit.measurements++;
    visit.last_seen = time;
    this.counts.read++;
    this.counts.tagged++;
    return fact;
  }

  page(visit, at, cause, reason, path) {
    visit.page = this.fact(visit, at, 'shown', 'page', path, reason, cause);
    visit.path = path;
    const page = visit.page.event_id;
    visit.links = [];
    for (let n = 0; n < 2; n++) visit.links.push(this.fact(visit, at + 40, 'shown', 'banner', pick(['spring-3', 'sale-1', 'delivery-2']), pick(CAMPAIGNS), page));
    for (let b = 0; b < 2; b++) {
      const why = pick(BLOCKS);
      const block = this.fact(visit, at + 60, 'shown', 'block', why.split(':')[1], why, page);
      for (let n = 0; n < 6; n++) visit.links.push(this.fact(visit, at + 80, 'shown', 'product', `p${below(5_000)}`, why, block.event_id));
    }
    for (let n = 0; n < 8; n++) visit.links.push(this.fact(visit, at + 90, 'shown', 'product', `p${below(5_000)}`, 'category', page));
  }

  act(visit, at) {
    if (visit.left-- <= 0) return this.leave(visit, at);
    visit.next = at + 1_500 + below(9_000);
    const kind = random();
    if (kind < 0.12) {
      const word = pick(WORDS);
      const search = this.fact(visit, at, 'searched', 'search', word, null, visit.page.event_id);
      this.page(visit, at + 400, search.event_id, 'search', `/search?q=${word.replace(' ', '+')}`);
    } else if (kind < 0.3 && visit.path.startsWith('/p/')) {
      visit.cart = this.fact(visit, at, 'added_to_cart', 'product', visit.path.slice(3), null, visit.page.event_id, 1_900 + below(14_000));
    } else if (kind < 0.6 && visit.cart) {
      this.order(visit, at);
    } else {
      const link = pick(visit.links);
      const click = this.fact(visit, at, 'clicked', link.entity, link.entity_id, null, link.event_id);
      this.page(visit, at + 400, click.event_id, 'navigation', link.entity === 'banner' ? '/c/lamps' : `/p/p${below(5_000)}`);
    }
  }

  order(visit, at) {
    const ordered = this.fact(visit, at, 'ordered', 'order', `o-${1_000 + this.made}`, null, visit.cart.event_id, visit.cart.value);
    visit.cart = null;
    visit.orders++;
    const byId = new Map(visit.facts.map(fact => [fact.event_id, fact]));
    const chain = [];
    for (let fact = ordered; fact; fact = byId.get(fact.cause)) {
      const { event_id, time, effect, entity, entity_id, reason } = fact;
      const beside = effect === 'shown' && entity !== 'page' && entity !== 'block'
        ? visit.facts.filter(other => other.cause === fact.cause && other !== fact && other.effect === 'shown' && other.entity !== 'block') : [];
      chain.push({ event_id, time, effect, entity, entity_id, reason, losers: beside.map(({ entity, entity_id, reason }) => ({ entity, entity_id, reason })) });
    }
    const value = ordered.value;
    const touches = [...new Set(chain.toReversed().map(node => node.reason).filter(Boolean))].filter(reason => !['navigation', 'search'].includes(reason)).slice(0, 5);
    if (!touches.length) touches.push('direct');
    const even = Math.floor(value / touches.length);
    const credits = touches.map((touch, n) => ({
      touch, time: chain.at(-1).time, first: n === 0 ? value : 0, last: n === touches.length - 1 ? value : 0,
      linear: n === 0 ? value - even * (touches.length - 1) : even,
      position: touches.length === 1 ? value : n === 0 ? value - Math.floor(value * 0.4) - (touches.length - 2) * Math.floor((value * 0.2) / Math.max(1, touches.length - 2)) : n === touches.length - 1 ? Math.floor(value * 0.4) : Math.floor((value * 0.2) / Math.max(1, touches.length - 2)),
    }));
    this.orders.unshift({
      order_event: ordered.event_id, order_id: ordered.entity_id, visit_id: visit.visit_id, browser_id: visit.browser_id, customer_id: null, tick: tick(at), time: at,
      value, country: visit.country, agent: 'person', final: false, whole: random() > 0.15, chain, credits,
    });
    this.orders.length = Math.min(this.orders.length, 40);
    this.told?.('order', this.orders[0]);
  }

  leave(visit, at) {
    this.visits.splice(this.visits.indexOf(visit), 1);
    this.ended.inactivity++;
    visit.over = { visit_id: visit.visit_id, tick: tick(at), reason: 'inactivity' };
    for (const order of this.orders.filter(order => order.visit_id === visit.visit_id)) {
      order.final = true;
      order.tick = tick(at);
      this.told?.('order', order);
    }
    this.told?.('end', visit);
  }

  /** A tenth of a second of the shop. */
  step(now = Date.now(), early = false) {
    if (this.silent) return;
    // All that the made visitors do not do themselves.
    const more = 38 + below(9) + Math.round(9 * Math.sin(now / 40_000));
    this.counts.read += more;
    this.counts.tagged += more;
    if (random() < 0.05) { this.counts.read++; this.counts[pick(['late', 'repeated'])]++; }
    if (random() < 0.3) this.begun++;
    if (random() < 0.28) this.ended.inactivity++;
    if (this.visits.length < 14 && random() < 0.15) this.enter(now);
    for (const visit of [...this.visits]) if (visit.next <= now) this.act(visit, now);
    const trend = pick(this.trends);
    trend.count = Math.max(1, trend.count + below(5) - 2 + (trend === this.trends[3] ? 2 : 0));
    const order = this.orders.find(order => !order.final && order.credits.length > 1 && !order.corrected);
    if (!early && order && random() < 0.02) this.correct(order);
  }

  /** A late fact moves an order's credit. */
  correct(order) {
    order.corrected = true;
    const [a, b] = order.credits;
    [a.first, b.first] = [b.first, a.first];
    order.tick = tick(Date.now());
    this.corrected++;
    this.told?.('order', order);
  }

  get open() {
    return this.begun - Object.values(this.ended).reduce((sum, n) => sum + n, 0);
  }

  progress(wall = Date.now()) {
    const partitions = [0, 1, 2, 3].map(partition => {
      const stuck = partition === 2 && wall % 40_000 < 9_000;
      return {
        process: 0, partition, tick: tick(wall - (stuck ? 1_400 : 100)), clock: wall - 20 - below(stuck ? 2_000 : 300),
        hold: stuck ? 'unread records' : 'wall clock', since: wall - (stuck ? wall % 40_000 : 103), lag: stuck ? 1_204 : 0,
      };
    });
    const least = partitions.reduce((a, b) => (b.tick < a.tick ? b : a));
    return {
      tick: least.tick, job: this.name('shop'), wall, committed: least.tick, horizon: least.tick - 125_000, open: this.open, counts: this.counts,
      visits: { begun: this.begun, ended: this.ended }, partitions,
      frontier: { tick: least.tick, held_by: `partition ${least.partition}: ${least.hold}`, since: least.since },
      tables: { measurements: { version: 14, tick: least.tick - 9_000 }, visits: { version: 14, tick: least.tick - 9_000 } },
    };
  }

  /** Rows of a chain view: sums that grow. */
  chances(name, key, ids, base) {
    const grown = (Date.now() - START) / 1_000;
    return ids.map((entity, n) => {
      const shown = Math.round((2_400 + grown * 9) / (1 + n * 0.8));
      const clicked = Math.round(shown * base * (1 + 0.35 * Math.sin(n * 2.3 + name.length)));
      const carted = Math.round(clicked * 0.21), ordered = Math.round(clicked * 0.08 * (1 + 0.4 * Math.cos(n)));
      return { [key]: this.name(entity), shown, clicked, carted, ordered, revenue: ordered * 5_412 };
    });
  }

  /** Every view: what it is of, its key, its values, its window, its rows. */
  views() {
    const grown = Math.floor((Date.now() - START) / 1_000);
    const wave = n => Math.round(6 * Math.sin(Date.now() / 9_000 + n * 2));
    const listed = (key, ids, base) => ids.map((text, n) => ({ [key]: this.name(text), count: Math.max(1, Math.round(base / (1 + n * 0.55)) + wave(n)) }));
    const searches = WORDS.map((word, n) => ({ entity_id: this.name(word), count: Math.round(96 / (1 + n * 0.4)) + Math.abs(wave(n)) }));
    const hour = 3_600_000;
    return {
      trending: ['measurements', ['entity_id'], ['count', 'usual', 'browsers'], 600_000, this.trends.map(row => ({ ...row, entity_id: this.name(row.entity_id) }))],
      agents: ['visits', ['agent'], ['count'], hour, [{ agent: 'person', count: 1_442 + wave(1) }, { agent: 'robot', count: 301 + wave(2) }, { agent: 'unknown', count: 38 }]],
      countries: ['visits', ['country'], ['count'], hour, COUNTRIES.map(([country, weight], n) => ({ country, count: weight * 17 + wave(n) }))],
      pages: ['measurements', ['entity_id'], ['count'], hour, listed('entity_id', ['/', '/c/lamps', '/cart', '/p/p1207', '/c/chairs', '/search?q=lamp', '/c/outdoor/garden-furniture-and-parasols?sort=price', '/checkout'], 4_180)],
      searches: ['measurements', ['entity_id'], ['count'], hour, searches],
      suggestions: ['measurements', ['prefix', 'entity_id'], ['count'], 24 * hour, searches.flatMap((row, n) => Array.from({ length: WORDS[n].length }, (_, i) => ({ prefix: WORDS[n].slice(0, i + 1), ...row })))],
      funnel: ['visits', ['step'], ['count'], hour, [['1 page shown', 1_812], ['2 product clicked', 1_021], ['3 product added_to_cart', 318], ['4 checkout shown', 171], ['5 order ordered', 94]].map(([step, count]) => ({ step, count: count + Math.floor(grown / (count < 200 ? 20 : 3)) }))],
      banners: ['chains', ['entity_id'], ['shown', 'clicked', 'carted', 'ordered', 'revenue'], hour, this.chances('banners', 'entity_id', ['spring-3', 'sale-1', 'delivery-2', 'app-4'], 0.031)],
      recommendations: ['chains', ['reason'], ['shown', 'clicked', 'carted', 'ordered', 'revenue'], hour, this.chances('recommendations', 'reason', BLOCKS, 0.064)],
      variants: ['chains', ['variant'], ['shown', 'clicked', 'carted', 'ordered', 'revenue'], hour, this.chances('ab', 'variant', ['checkout:one-page', 'checkout:steps'], 0.12)],
      entries: ['visits', ['entry'], ['count'], hour, listed('entry', ['/', '/c/lamps', '/p/p1207', '/p/p88', '/c/chairs'], 812)],
      exits: ['visits', ['exit'], ['count'], hour, listed('exit', ['/p/p1207', '/', '/cart', '/thanks', '/c/lamps'], 640)],
      credits: ['credits', ['touch'], ['orders', 'first', 'last', 'linear', 'position', 'expired'], 24 * hour, [...CAMPAIGNS, ...BLOCKS, 'direct', 'expired'].map((touch, n) => ({ touch: touch === 'expired' ? touch : this.name(touch), orders: 64 - n * 6, first: 612_000 - n * 64_100, last: 240_000 + ((n * 7) % 5) * 81_000, linear: 410_000 - n * 31_000, position: 470_000 - n * 42_000, expired: 0 }))],
    };
  }
}

const START = Date.now();
const tick = ms => Math.floor(ms / 100) * 100;
