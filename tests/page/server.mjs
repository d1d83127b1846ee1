// A made job's HTTP API, for the test of the live page and for looking at the page without a job: the contract over the
// shop of shop.mjs, and the page's own files. `node tests/page/server.mjs [PORT]` serves it on loopback.
// A test can drop all connections, refuse new ones for a while, or leave views out.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Shop } from './shop.mjs';

const PAGE = new URL('../../src/serve/page/', import.meta.url);
const TYPES = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' };

/** Starts it. `history`: so many seconds of progress are told at once to who comes first, for pictures. */
export async function serve({ port = 0, hostile = false, history = 0, without = [], token = null } = {}) {
  const shop = new Shop({ hostile });
  const streams = new Set();
  const sockets = new Set();
  const connections = { most: 0, get now() { return streams.size; } };
  let refusing = false;

  const problem = (response, status, detail) => {
    response.writeHead(status, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify({ type: 'about:blank', title: detail, status, detail }));
  };
  const json = (response, value) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };
  const send = (response, event, data, id) => response.write(`event: ${event}\nid: ${id ?? data.tick ?? 0}\ndata: ${JSON.stringify(data)}\n\n`);
  /** A stream that hears of `about` each second and of what the shop tells. */
  const stream = (response, about) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write('retry: 500\n\n');
    const each = { response, ...about };
    streams.add(each);
    connections.most = Math.max(connections.most, streams.size);
    response.on('close', () => streams.delete(each));
  };
  const bare = ({ facts, next, left, page, path, links, last, cart, over, ...visit }) => visit;

  shop.told = (what, about) => {
    for (const each of streams) {
      if (what === 'order' && each.orders) send(each.response, 'order', about, about.tick);
      if (what === 'end' && each.visit === about) {
        send(each.response, 'end', about.over);
        each.response.end();
      }
    }
  };
  const beat = setInterval(() => shop.step(), 100);
  const second = setInterval(() => {
    if (shop.silent) return;
    for (const each of streams) {
      if (each.progress) send(each.response, 'progress', shop.progress());
      if (each.visit && each.told !== each.visit.measurements) {
        each.told = each.visit.measurements;
        send(each.response, 'visit', { ...bare(each.visit), facts: each.visit.facts }, shop.progress().tick);
      }
    }
  }, 1_000);

  const routes = {
    '/views': (_, response) => json(response, {
      tick: shop.progress().tick,
      views: Object.entries(shop.views()).filter(([name]) => !without.includes(name))
        .map(([name, [of, key, values, window, rows]]) => ({ name, of, key, values, window, step: 1_000, top: 20, rows: rows.length })),
    }),
    '/progress': (_, response) => json(response, shop.progress()),
    '/progress/changes': (_, response) => {
      stream(response, { progress: true });
      const now = Date.now();
      const rate = ago => Math.round(430 + 90 * Math.sin(ago / 40) + 60 * Math.sin(ago / 7.3) + ((ago * 7_919) % 61));
      let read = shop.counts.read;
      for (let ago = 1; ago <= history; ago++) read -= rate(ago);
      for (; history > 0; read += rate(history--)) {
        const open = shop.open - Math.round(90 * Math.sin(history / 95) + 0.12 * history);
        send(response, 'progress', { ...shop.progress(now - history * 1_000), open, counts: { ...shop.counts, read } });
      }
      send(response, 'progress', shop.progress());
    },
    '/why': (_, response) => response.end('shop: running\n'),
    '/openapi.json': (_, response) => json(response, { openapi: '3.1.0' }),
    '/orders': (url, response) => json(response, { tick: shop.progress().tick, orders: shop.orders.slice(0, Number(url.searchParams.get('limit') ?? 20)) }),
    '/orders/changes': (_, response) => {
      stream(response, { orders: true });
      send(response, 'snapshot', { tick: shop.progress().tick, orders: shop.orders.slice(0, 20) });
    },
    '/visits': (url, response) => json(response, { tick: shop.progress().tick, visits: shop.visits.slice(0, Number(url.searchParams.get('limit') ?? 10)).map(bare) }),
  };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://127.0.0.1');
    const path = url.pathname;
    const file = path === '/' ? 'index.html' : /^\/[a-z]+\.(?:js|css|svg)$/.test(path) ? path.slice(1) : null;
    if (file) {
      const text = await readFile(new URL(file, PAGE)).catch(() => null);
      if (!text) return problem(response, 404, `there is no ${path}`);
      response.writeHead(200, { 'content-type': TYPES[file.split('.').at(-1)], 'content-security-policy': "default-src 'self'", 'x-content-type-options': 'nosniff' });
      return response.end(text);
    }
    if (token && request.headers.authorization !== `Bearer ${token}` && url.searchParams.get('token') !== token) return problem(response, 401, 'a token is wanted');
    if (routes[path]) return routes[path](url, response);
    const [, view] = /^\/views\/([a-z]+)$/.exec(path) ?? [];
    if (view) {
      const found = without.includes(view) ? null : shop.views()[view];
      if (!found) return problem(response, 404, `there is no view ${view}`);
      const [, key, values, window, rows] = found;
      const asked = rows.filter(row => key.every(field => !url.searchParams.has(field) || row[field] === url.searchParams.get(field)));
      asked.sort((a, b) => b[values[0]] - a[values[0]]);
      return json(response, { view, tick: shop.progress().tick, window, key, values, rows: asked.slice(0, Number(url.searchParams.get('limit') ?? 100)) });
    }
    const [, id, changes] = /^\/visits\/([0-9a-f]{32})(\/changes)?$/.exec(path) ?? [];
    const visit = shop.visits.find(visit => visit.visit_id === id);
    if (!visit) return problem(response, 404, `there is no ${path}`);
    if (!changes) return json(response, { ...bare(visit), facts: visit.facts });
    stream(response, { visit, told: visit.measurements });
    send(response, 'visit', { ...bare(visit), facts: visit.facts }, shop.progress().tick);
  });
  server.on('connection', socket => {
    if (refusing) return socket.destroy();
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise(ready => server.listen(port, '127.0.0.1', ready));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    shop,
    connections,
    /** Drops all connections, and takes none for so long. */
    drop(ms) {
      refusing = true;
      sockets.forEach(socket => socket.destroy());
      setTimeout(() => { refusing = false; }, ms);
    },
    close() {
      clearInterval(beat);
      clearInterval(second);
      sockets.forEach(socket => socket.destroy());
      server.close();
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve({ port: Number(process.argv[2] ?? 0), history: 540 });
  console.log(`a made job at ${url}`);
}
