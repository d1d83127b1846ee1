// Pictures of the live page: desktop and phone, light and dark, of a made job or of the one at a URL.
// Usage: node shots.mjs DIR [URL]      (through scripts/page shots)

import { mkdir } from 'node:fs/promises';
import { DESKTOP, PHONE, launch, look, readThrough } from './browser.mjs';
import { serve } from './server.mjs';

const [dir, given] = process.argv.slice(2);
await mkdir(dir, { recursive: true });
const browser = await launch();
for (const [device, options] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  for (const colorScheme of ['light', 'dark']) {
    const made = given ? null : await serve({ history: 540 });
    const { page, context } = await look(browser, given ?? made.url, { ...options, colorScheme });
    await page.waitForSelector('[data-state=live]');
    const prefix = page.locator('#prefix');
    if (await prefix.isVisible()) await prefix.fill('la');
    await readThrough(page);
    const file = `${dir}/${device}-${colorScheme}.png`;
    await page.screenshot({ path: file, fullPage: true });
    console.log(file);
    await context.close();
    made?.close();
  }
}
await browser.close();
