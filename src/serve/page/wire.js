// How the page asks the job. A browser gives all pages of an origin six connections, so streams are few (the progress
// always, orders and one visit while they are in sight), and views are asked in turns, those in sight only. A hidden
// page keeps nothing but its progress.

let token = keepToken();

/** Takes the token out of the address, where it would stay in histories, and keeps it for this tab. */
function keepToken() {
  const given = new URLSearchParams(location.search).get('token') ?? new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('token');
}

/** Goes on with another token. */
export function useToken(given) {
  sessionStorage.setItem('token', given);
  location.reload();
}

/** An answer that is none: its HTTP status, and what the job said. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The JSON at a path. */
export async function ask(path) {
  const answer = await fetch(path, {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    cache: 'no-store',
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.detail ?? problem.title ?? `HTTP ${answer.status}`);
}

// --- What is in sight

const sights = new Map();
const shown = new IntersectionObserver(
  entries => {
    for (const entry of entries) {
      const sight = sights.get(entry.target);
      sight.near = entry.isIntersecting;
      sight.tell.forEach(tell => tell());
    }
  },
  { rootMargin: '240px' },
);

/** Whether an element is in sight or nearly; `tell` is called when that may have changed. */
function insight(element, tell) {
  if (!element) return () => true;
  let sight = sights.get(element);
  if (!sight) {
    sight = { near: false, tell: [] };
    sights.set(element, sight);
    shown.observe(element);
  }
  if (tell) {
    sight.tell.push(tell);
    document.addEventListener('visibilitychange', tell);
  }
  return () => sight.near && document.visibilityState === 'visible';
}

// --- Questions, in turns

const questions = [];
let asking = false;

/** Asks for a path again and again while the element is in sight, and gives each answer to `answered`; a path that is
    null asks nothing. Returns a function that asks at once. */
export function question(element, path, answered, { every = 1_000, refused = () => {} } = {}) {
  const each = { seen: insight(element), path, answered, refused, every, due: 0, over: false };
  questions.push(each);
  return () => {
    each.due = 0;
    takeTurns();
  };
}

async function takeTurns() {
  if (asking) return;
  asking = true;
  for (;;) {
    const now = performance.now();
    const next = questions.filter(q => !q.over && q.due <= now && q.seen()).sort((a, b) => a.due - b.due)[0];
    const path = next?.path();
    if (!next) break;
    next.due = now + next.every;
    if (!path) continue;
    try {
      const answer = await ask(path);
      // Somebody may have typed on meanwhile.
      if (next.path() === path) next.answered(answer);
      else next.due = 0;
    } catch (error) {
      if (error instanceof Refused && error.status < 500) {
        next.over = error.status === 403 || error.status === 404;
        next.refused(error);
      }
      next.due = performance.now() + 3_000;
    }
  }
  asking = false;
}
setInterval(takeTurns, 200);

// --- Streams

/** A stream of server-sent events while the element is in sight: `events` by their names; `opened`, `broken` and
    `refused` tell of the connection. A browser connects again by itself, except after an answer that is none; that is
    asked for its reason. `to` follows another path, or none. */
export function stream(element, path, events, { opened = () => {}, broken = () => {}, refused = () => {} } = {}) {
  let source = null;
  let timer = 0;
  let pause = 1_000;
  const close = () => {
    clearTimeout(timer);
    timer = 0;
    source?.close();
    source = null;
  };
  const open = () => {
    const mine = new EventSource(token ? `${path}${path.includes('?') ? '&' : '?'}token=${encodeURIComponent(token)}` : path);
    source = mine;
    mine.onopen = () => {
      pause = 1_000;
      opened();
    };
    mine.onerror = async () => {
      if (source !== mine) return;
      broken();
      if (mine.readyState !== EventSource.CLOSED) return;
      close();
      const of = path;
      const reason = await ask(path.replace(/\/changes$/, '')).then(() => null, error => error);
      if (path !== of || source) return;
      if (reason instanceof Refused && [401, 403, 404, 410].includes(reason.status)) return refused(reason);
      timer = setTimeout(look, pause);
      pause = Math.min(15_000, pause * 2);
    };
    for (const [name, heard] of Object.entries(events)) {
      mine.addEventListener(name, event => source === mine && heard(JSON.parse(event.data)));
    }
  };
  const look = () => {
    timer = 0;
    const wanted = path && seen();
    if (wanted && !source) open();
    if (!wanted && source) close();
  };
  const seen = insight(element, look);
  look();
  return {
    to(other) {
      if (other === path) return;
      close();
      path = other;
      look();
    },
  };
}
