// The browser that looks at the live page: Debian's Chromium, which speaks with nobody but the page's origin. For
// scripts/page, which says in PAGE_MODULES where playwright-core is, and in CHROMIUM which browser.

import { createRequire } from 'node:module';

const { chromium } = createRequire(`${process.env.PAGE_MODULES}/`)('playwright-core');

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

export const DESKTOP = { viewport: { width: 1360, height: 900 } };
export const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** The browser complains of any 404; but a visit that somebody wants to see may have ended by then. */
const ENDED = /404 .*\/visits\/[0-9a-f]{32}/;

/** A page at `url`, and what it asked for and complained of. */
export async function look(browser, url, options) {
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  const page = await context.newPage();
  const asked = [];
  const errors = [];
  page.on('request', request => asked.push(request.url()));
  page.on('console', message => {
    const text = `${message.text()} (${message.location().url})`;
    if (message.type() === 'error' && !ENDED.test(text)) errors.push(text);
  });
  page.on('pageerror', error => errors.push(String(error)));
  await page.goto(url, { waitUntil: 'load' });
  return { page, context, asked, errors };
}

/** Scrolls through the page, as a reader would: only what is in sight is asked for. */
export async function readThrough(page, pause = 900) {
  // It grows while it is read.
  for (let y = 0; y < (await page.evaluate(() => document.documentElement.scrollHeight)); y += 500) {
    await page.evaluate(to => scrollTo(0, to), y);
    await page.waitForTimeout(pause);
  }
  await page.evaluate(() => scrollTo(0, 0));
  await page.waitForTimeout(pause);
}
