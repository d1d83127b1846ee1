// The live page in a browser, as a reader has it: against a made job, or against the one at a URL. Each check is a
// sentence that holds; the first that does not ends it.
// Usage: node page.mjs [URL]      (through scripts/page test)

import assert from 'node:assert/strict';
import { DESKTOP, PHONE, launch, look, readThrough } from './browser.mjs';
import { serve } from './server.mjs';

const given = process.argv[2];
const browser = await launch();
const EVER = 30_000;

async function check(sentence, body, { made: settings = {}, device = DESKTOP, ...options } = {}) {
  const made = given ? null : await serve(settings);
  const url = given ?? made.url;
  const seen = await look(browser, url, { ...device, ...options });
  try {
    await body({ ...seen, made, url });
    console.log(`page: ${sentence}`);
  } catch (error) {
    console.error(`page: NOT: ${sentence}`);
    throw error;
  } finally {
    await seen.context.close();
    made?.close();
  }
}

const live = page => page.waitForSelector('[data-state=live]', { timeout: EVER });
/** The sections that this job has. */
const sections = page => page.$$eval('main > section', all => all.filter(section => !section.hidden).map(section => section.id));
const text = (page, selector) => page.locator(selector).first().textContent();

/** What must be there once a section is filled, by its ID. */
const FILLED = {
  now: '#rate-chart path.line', who: '#ends li', trending: '#trending-rows li', pages: '#pages-rows li', searches: '#searches-rows li', funnel: '#funnel-rows li:nth-child(2)',
  ways: '#entries-rows li, #exits-rows li', chances: '.whiskers li', orders: '#order .rail circle.goal', visit: '#story .story > li', credits: '#credits-rows li', time: '.clock-rows li',
};

/** What the API has for a section, to be asked only if the section stays empty: a real job may have no order yet. */
const SOURCE = {
  trending: ['/views/trending', 'rows'], pages: ['/views/pages', 'rows'], searches: ['/views/searches', 'rows'], funnel: ['/views/funnel', 'rows'], ways: ['/views/entries', 'rows'],
  chances: ['/views/banners', 'rows'], credits: ['/views/credits', 'rows'], orders: ['/orders', 'orders'], visit: ['/visits?agent=person', 'visits'],
};

async function nothingThere(page, id) {
  if (!given || !SOURCE[id]) return false;
  const [path, what] = SOURCE[id];
  const answer = await page.request.get(new URL(path, given).href);
  const nothing = answer.status() === 404 || (await answer.json())[what].length === 0;
  if (nothing) console.error(`page: the job has nothing for the section ${id}`);
  return nothing;
}

async function fills(page) {
  for (const id of await sections(page)) {
    await page.evaluate(id => document.getElementById(id).scrollIntoView(), id);
    await page.locator(FILLED[id]).first().waitFor({ state: 'attached', timeout: EVER }).catch(async () => (await nothingThere(page, id)) || assert.fail(`the section ${id} stays empty`));
  }
}

/** Contrast as WCAG 2 has it, of an element's text with what is behind it. */
const contrast = (page, selector) => page.evaluate(selector => {
  const channel = c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const rgb = text => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  return [...document.querySelectorAll(selector)].filter(element => element.checkVisibility()).map(element => {
    let behind = element;
    while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgb(element instanceof SVGElement ? style.fill : style.color)), light(rgb(getComputedStyle(behind ?? document.documentElement).backgroundColor))].sort((x, y) => y - x);
    return { of: `${selector}: ${element.textContent.slice(0, 30)}`, is: (a + 0.05) / (b + 0.05) };
  });
}, selector);

await check('every section that the job has is filled, without an error and without another origin', async ({ page, asked, errors, url }) => {
  await live(page);
  await fills(page);
  assert.match(await text(page, '#now-h'), /visits are open\. [\d,.KM]+ measurements come in a second/);
  assert.match(await text(page, '#ledger'), /^[\d,]+ read = /);
  const origin = new URL(url).origin;
  assert.deepEqual(asked.filter(each => new URL(each).origin !== origin), []);
  assert.deepEqual(errors, []);
});

await check('nothing scrolls sideways at 360 pixels, and nothing is cut off at the right', async ({ page }) => {
  await live(page);
  await fills(page);
  await readThrough(page, 100);
  const wide = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    over: [...document.querySelectorAll('body *')].filter(element => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => `${element.tagName} ${element.className}`),
  }));
  assert.equal(wide.page, 360);
  assert.deepEqual(wide.over, []);
}, { device: PHONE });

for (const colorScheme of ['light', 'dark']) {
  await check(`words can be read by ${colorScheme} (WCAG AA)`, async ({ page }) => {
    await live(page);
    await fills(page);
    const [paper] = await page.evaluate(() => [getComputedStyle(document.documentElement).backgroundColor]);
    const brightness = paper.match(/\d+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0);
    assert.ok(colorScheme === 'dark' ? brightness < 150 : brightness > 700, `the paper is ${paper}`);
    const words = ['h1', 'h2', 'h3', '.deck', '.note', '.bar-label', '.bar-value', '.bar-note', '.tick-x', '.tick-y', '.strip p', '.badge', '.node-what', '.node-time', '.node-reason', '.losers li',
      'th', 'td', '.pick-more', '.picks time', '.story time', '.act', '.clock-words', '.clock-lines span', '.clock-scale span', '.switch label', 'legend', 'button', 'footer p', 'footer a', '.funnel-rate span', '.chance .scale span', '.share-words li'];
    for (const selector of words) {
      for (const { of, is } of await contrast(page, selector)) assert.ok(is >= 4.5, `${of}: ${is.toFixed(2)} to 1`);
    }
  }, { colorScheme });
}

await check('the keyboard reaches everything that can be used, and the focus is seen', async ({ page }) => {
  await live(page);
  await fills(page);
  await page.evaluate(() => document.getElementById('orders-follow').checked && document.getElementById('orders-follow').click());
  await page.evaluate(() => { scrollTo(0, 0); document.activeElement?.blur(); });
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  // A radio group is one stop; what is in a closed dialog is none.
  const wanted = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, select')]
    .filter(element => element.checkVisibility() && !element.closest('dialog') && !(element.type === 'radio' && !element.checked) && !element.closest('.picks'))
    .map((element, n) => (element.dataset.wanted = String(n))));
  const reached = new Set();
  const unseen = [];
  for (let n = 0; n < 120; n++) {
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      const shown = element.type === 'radio' ? element.nextElementSibling : element;
      const { outlineStyle, outlineWidth } = getComputedStyle(shown);
      return { wanted: element.dataset.wanted, seen: outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2, what: element.outerHTML.slice(0, 60), body: element === document.body };
    });
    if (at.body && n) break;
    if (at.wanted) reached.add(at.wanted);
    if (!at.seen) unseen.push(at.what);
    await page.keyboard.press('Tab');
  }
  assert.deepEqual(wanted.filter(each => !reached.has(each)), []);
  assert.deepEqual(unseen, []);
});

await check('j and k move between sections, ? shows the keys, Escape hides them, and they can be turned off', async ({ page }) => {
  await live(page);
  await page.waitForTimeout(500);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const all = await sections(page);
  await page.keyboard.press('g');
  assert.equal(await focused(), all[0]);
  for (const id of all.slice(1)) {
    await page.keyboard.press('j');
    assert.equal(await focused(), id);
  }
  await page.keyboard.press('k');
  assert.equal(await focused(), all.at(-2));
  await page.keyboard.press('?');
  assert.ok(await page.locator('#keys').isVisible());
  await page.locator('#keys-on').uncheck();
  await page.keyboard.press('Escape');
  assert.ok(!(await page.locator('#keys').isVisible()));
  const before = await focused();
  await page.keyboard.press('j');
  assert.equal(await focused(), before);
}, { reducedMotion: 'reduce' });

await check('inputs have labels, sections names, pictures words; IDs are unique; little is read aloud', async ({ page }) => {
  await live(page);
  await fills(page);
  const wrong = await page.evaluate(() => {
    const wrong = [];
    for (const input of document.querySelectorAll('input')) if (!input.labels.length) wrong.push(input.outerHTML);
    for (const button of document.querySelectorAll('button')) if (!(button.ariaLabel || button.textContent.trim())) wrong.push(button.outerHTML);
    for (const section of document.querySelectorAll('section')) if (!document.getElementById(section.getAttribute('aria-labelledby'))?.textContent) wrong.push(section.id);
    for (const picture of document.querySelectorAll('[role=img]')) if (!picture.ariaLabel) wrong.push(picture.className);
    for (const drawing of document.querySelectorAll('svg')) if (!drawing.closest('[aria-hidden=true], [role=img]')) wrong.push(drawing.outerHTML.slice(0, 60));
    const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
    wrong.push(...ids.filter((id, n) => ids.indexOf(id) !== n));
    for (const element of document.querySelectorAll('[style]')) if (element.getAttribute('style').includes('url(')) wrong.push('a style with an address');
    return { wrong, aloud: document.querySelectorAll('[role=status], [aria-live]').length, levels: [...document.querySelectorAll('h1')].length, lang: document.documentElement.lang };
  });
  assert.deepEqual(wrong.wrong, []);
  assert.ok(wrong.aloud <= 2, `${wrong.aloud} places are read aloud`);
  assert.deepEqual([wrong.levels, wrong.lang], [1, 'en']);
});

await check('what a visitor begins to type is suggested for', async ({ page, made }) => {
  await live(page);
  if (!(await page.locator('#prefix').isVisible())) return;
  await page.locator('#prefix').scrollIntoViewIfNeeded();
  if (made) {
    await page.locator('#prefix').pressSequentially('La', { delay: 30 });
    await page.waitForFunction(() => [...document.querySelectorAll('#suggestions-rows .bar-label')].map(each => each.textContent).join().startsWith('lamp,lamp shade'));
    await page.locator('#prefix').fill('zzz');
    await page.waitForFunction(() => document.querySelectorAll('#suggestions-rows li').length === 0);
  }
});

if (!given) {
  await check('a job that is gone is said to be gone, and heard again when it is back', async ({ page, made, errors }) => {
    await live(page);
    await fills(page);
    made.drop(4_000);
    await page.waitForSelector('[data-state=broken]', { timeout: EVER });
    assert.match(await text(page, '#state-words'), /^reconnecting; last heard at \d\d:\d\d:\d\d$/);
    await live(page);
    const tick = await text(page, '#tick');
    await page.waitForFunction(tick => document.getElementById('tick').textContent !== tick, tick);
    await page.waitForTimeout(1_500);
    // What was not heard is a gap in the line.
    assert.ok((await page.locator('#rate-chart path.line').count()) >= 2);
    assert.deepEqual(errors.filter(error => !error.includes('net::ERR_')), []);
  });

  await check('a job that says nothing is said to be silent', async ({ page, made }) => {
    await live(page);
    made.shop.silent = true;
    await page.waitForSelector('[data-state=silent]', { timeout: EVER });
    made.shop.silent = false;
    await live(page);
  });

  await check('a name that is markup stays a name', async ({ page, errors }) => {
    await live(page);
    await fills(page);
    await readThrough(page, 200);
    assert.equal(await page.evaluate(() => window.hostile), undefined);
    assert.equal(await page.locator('img').count(), 0);
    assert.match(await text(page, '#trending-rows .bar-label'), /^<img src=x onerror=/);
    assert.match(await text(page, 'h1'), /^<img src=x onerror=/);
    assert.match(await text(page, '#order .node-what b'), /<img src=x onerror=/);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    assert.deepEqual(errors, []);
  }, { made: { hostile: true }, device: PHONE });

  await check('what the job has no view for is left out', async ({ page, errors }) => {
    await live(page);
    await page.waitForFunction(() => document.getElementById('funnel').hidden);
    const left = await sections(page);
    assert.deepEqual(['funnel', 'credits', 'trending', 'chances'].filter(id => left.includes(id)), []);
    assert.ok(!(await page.locator('#prefix').isVisible()));
    await fills(page);
    assert.deepEqual(errors, []);
  }, { made: { without: ['funnel', 'credits', 'trending', 'banners', 'recommendations', 'variants', 'suggestions', 'agents'] } });

  await check('an order is drawn with what was not chosen, a credit that is corrected is said to be, and a visit ends with its reason', async ({ page, made }) => {
    await live(page);
    await page.locator('#orders').scrollIntoViewIfNeeded();
    await page.locator('#order .rail circle.goal').waitFor({ state: 'attached' });
    const { shop } = made;
    const order = shop.orders.find(order => order.credits.length > 1 && !order.corrected && order.chain.some(node => node.losers.length));
    await page.locator(`#orders-list li[data-key="${order.order_event}"] button`).click();
    await page.waitForFunction(() => document.querySelectorAll('#order .fork').length > 0 && document.querySelectorAll('#order .losers li').length > 0);
    const all = page.locator('#order .between button');
    if (await all.count()) await all.click();
    assert.equal(await page.locator('#order .node').count(), order.chain.length);
    const sums = await page.locator('#order tfoot td').allTextContents();
    assert.deepEqual([...new Set(sums)], [(order.value / 100).toFixed(2)]);
    shop.correct(order);
    await page.waitForFunction(() => document.querySelector('#order .corrected')?.textContent === 'corrected once');
    assert.ok((await page.locator('#orders-list li').count()) <= 20);

    await page.locator('#visit').scrollIntoViewIfNeeded();
    await page.locator('#story .story > li').first().waitFor();
    const id = await page.locator('#visits-list li:has([aria-pressed=true])').getAttribute('data-key');
    shop.leave(shop.visits.find(visit => visit.visit_id === id), Date.now());
    await page.waitForFunction(() => document.querySelector('.story-end')?.textContent.startsWith('The visit is over, by inactivity'));
  });

  await check('a job that wants a token is asked with the one that is given, which does not stay in the address', async ({ page, made }) => {
    await page.locator('#token').waitFor();
    await page.locator('#token-input').fill('letmein');
    await page.locator('#token button').click();
    await live(page);
    assert.equal(page.url(), made.url);
  }, { made: { token: 'letmein' } });

  await check('at most three streams are open, none but the progress while the page is far from the others', async ({ page, made }) => {
    await live(page);
    await fills(page);
    await readThrough(page, 400);
    assert.ok(made.connections.most <= 3, `${made.connections.most} streams`);
    for (let n = 0; made.connections.now > 1; n++) {
      assert.ok(n < 100, `${made.connections.now} streams at the top of the page`);
      await page.waitForTimeout(100);
    }
  });
}
await browser.close();
process.exit(0);
