// The words and the statistics of the live page, without a browser.

import assert from 'node:assert/strict';
import { ceiling, clock, country, duration, many, money, number, percent, span, the, wilson } from '../../src/serve/page/words.js';

const near = (a, b) => assert.ok(Math.abs(a - b) < 5e-4, `${a} is not ${b}`);

// The examples of Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
for (const [k, n, low, high] of [[81, 263, 0.2553, 0.3662], [15, 148, 0.0624, 0.1605], [0, 20, 0, 0.1611], [1, 29, 0.0061, 0.1718]]) {
  const [from, to] = wilson(k, n);
  near(from, low);
  near(to, high);
}
for (const [k, n] of [[0, 0], [3, 2], [-1, 5]]) assert.equal(wilson(k, n), null);
for (let n = 1; n < 60; n++) {
  for (let k = 0; k <= n; k++) {
    const [from, to] = wilson(k, n);
    assert.ok(0 <= from && from <= k / n + 1e-12 && k / n - 1e-12 <= to && to <= 1, `${k} of ${n}: ${from} to ${to}`);
  }
}

assert.equal(money(12_900), '129.00');
assert.equal(money(-5), '-0.05');
assert.equal(money(undefined), '–');
assert.equal(number(1_234_567), '1,234,567');
assert.deepEqual([percent(0, 3), percent(1, 3), percent(1, 30), percent(1, 3_000), percent(3, 3), percent(1, 0)], ['0\u00a0%', '33\u00a0%', '3.3\u00a0%', '0.03\u00a0%', '100\u00a0%', '–']);
assert.deepEqual([duration(149), duration(1_400), duration(61_000), duration(600_000), duration(7_200_000)], ['149\u00a0ms', '1.4\u00a0s', '61\u00a0s', '10\u00a0min', '2\u00a0h']);
assert.deepEqual([span(3_600_000), span(600_000), span(90_000), span(0)], ['in the last hour', 'in the last 10 minutes', 'in the last 90 seconds', '']);
assert.deepEqual([clock(1_700_000_000_123), clock(1_700_000_000_123, 1), clock(NaN), clock(1e20)], ['22:13:20', '22:13:20.1', '–', '–']);
assert.deepEqual([country('NL'), country(null), country('<b>'), the('NL'), the('DE')], ['Netherlands', 'unknown', '<b>', 'the Netherlands', 'Germany']);
assert.deepEqual([many(1, 'order'), many(2, 'order')], ['1\u00a0order', '2\u00a0orders']);
assert.deepEqual([0, 1, 1.1, 4, 6, 0.03].map(ceiling), [1, 1, 2, 5, 10, 0.05]);
console.log('words: well');
