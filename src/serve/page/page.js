// The page comes alive here: what the job has decides which sections there are, the connection is told as it is, and
// keys move about. Each section is a module of its own.

import { at, say, soon } from './draw.js';
import { Refused, ask, stream, useToken } from './wire.js';
import { clock, date, duration } from './words.js';
import * as now from './now.js';
import * as people from './people.js';
import * as popular from './popular.js';
import * as chances from './chances.js';
import * as orders from './orders.js';
import * as visit from './visit.js';
import * as time from './time.js';
import { keys } from './keys.js';

/** Progress is told each second; so long without any is worth saying. */
const SILENCE = 5_000;

let state = 'connecting';
let heard = 0;
let progress = null;

function connection(to) {
  state = to;
  soon(drawState);
}

function drawState() {
  const silent = state === 'live' && performance.now() - heard > SILENCE;
  const shown = silent ? 'silent' : state;
  document.documentElement.dataset.state = shown;
  const last = progress ? `; last heard at ${clock(progress.wall)}` : '';
  say(at('state-words'), {
    connecting: 'connecting',
    live: 'live',
    silent: `connected, but silent${last}`,
    broken: `reconnecting${last}`,
    refused: 'not allowed',
  }[shown]);
  // How long it is by now is not read aloud each second.
  at('state').title = shown === 'live' || !progress ? '' : `${duration(performance.now() - heard)} ago`;
}

function drawHead() {
  say(at('job'), progress.job);
  document.title = `${progress.job}, live`;
  say(at('date'), date(progress.tick || progress.wall));
  say(at('tick'), progress.tick ? clock(progress.tick, 1) : 'not begun');
}

/** Leaves out what the job has no view for. */
function sections(views) {
  const has = new Map(views.map(view => [view.name, view]));
  for (const part of document.querySelectorAll('[data-view]')) {
    part.hidden = !part.dataset.view.split(' ').some(name => has.has(name));
  }
  return has;
}

async function look() {
  try {
    const { views } = await ask('/views');
    const has = sections(views);
    for (const section of [people, popular, chances, orders]) section.views(has);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return refused(error);
    // The progress will be there again, and then they are asked for again.
  }
}

function refused(error) {
  connection('refused');
  say(at('token-why'), error.status === 401 ? 'This job wants a token.' : error.message);
  at('token').hidden = false;
}

at('token').addEventListener('submit', event => {
  event.preventDefault();
  useToken(at('token-input').value.trim());
});

for (const section of [now, people, popular, chances, orders, visit, time]) section.start();
keys();

stream(null, '/progress/changes', {
  progress(said) {
    heard = performance.now();
    progress = said;
    if (state !== 'live') connection('live');
    now.progress(said);
    people.progress(said);
    time.progress(said);
    soon(drawHead);
    soon(drawState);
  },
}, {
  // Whoever answers now may be another run of the job, with other views.
  opened: () => {
    heard = performance.now();
    connection('live');
    look();
  },
  broken: () => connection('broken'),
  refused,
});
setInterval(() => soon(drawState), 1_000);
document.addEventListener('visibilitychange', () => soon(drawState));
