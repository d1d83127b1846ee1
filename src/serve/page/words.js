// Numbers, times and money as words of the page, and the one piece of statistics on it. Plain functions, without a
// page: tests/page/words.mjs asks them directly. Everything is in English and UTC, as all else that a job says; a number
// and its unit stay in one line.

const whole = new Intl.NumberFormat('en');
const cents = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const regions = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'code' });
const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'full', timeZone: 'UTC' });

/** A whole number in groups of three; a dash for what is not known. */
export const number = n => (Number.isFinite(n) ? whole.format(Math.round(n)) : '–');

/** A number for where there is little room. */
export const brief = n => (Number.isFinite(n) ? (Math.abs(n) < 10_000 ? number(n) : short.format(n)) : '–');

/** Cents as money. A job knows no currency, so none is named. */
export const money = n => (Number.isFinite(n) ? cents.format(n / 100) : '–');

/** A share in percent, with as many digits as still say something. */
export function percent(part, all) {
  if (!(all > 0)) return '–';
  const share = (100 * part) / all;
  const digits = share === 0 || share >= 99.95 ? 0 : share < 1 ? 2 : share < 10 ? 1 : 0;
  return `${share.toFixed(digits)}\u00a0%`;
}

/** A duration, rounded as `visitflow why` rounds it. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}\u00a0ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)}\u00a0s`;
  if (ms < 120_000) return `${Math.floor(ms / 1_000)}\u00a0s`;
  if (ms < 7_200_000) return `${Math.floor(ms / 60_000)}\u00a0min`;
  if (ms < 172_800_000) return `${Math.floor(ms / 3_600_000)}\u00a0h`;
  return `${number(Math.floor(ms / 86_400_000))}\u00a0days`;
}

/** A window of a view: "in the last hour". */
export function span(ms) {
  if (!(ms > 0)) return '';
  const units = [[86_400_000, 'day'], [3_600_000, 'hour'], [60_000, 'minute'], [1_000, 'second']];
  const [size, unit] = units.find(([size]) => ms >= size && ms % size === 0) ?? [1, 'ms'];
  const n = ms / size;
  return n === 1 ? `in the last ${unit}` : `in the last ${number(n)} ${unit}${unit === 'ms' ? '' : 's'}`;
}

const valid = ms => Number.isFinite(ms) && Math.abs(ms) < 8.64e15;

/** The time of day, to the second or, asked so, to the tick. */
export function clock(ms, digits = 0) {
  if (!valid(ms)) return '–';
  return new Date(ms).toISOString().slice(11, digits ? 20 + digits : 19);
}

/** The day. */
export const date = ms => (valid(ms) ? day.format(ms) : '');

/** A country's name by its code. */
export function country(code) {
  if (!code) return 'unknown';
  try {
    return regions.of(code) ?? code;
  } catch {
    return code;
  }
}

/** The same within a sentence: "the Netherlands". */
export const the = code => country(code).replace(/^(?=United |Netherlands|Philippines|Bahamas|Gambia|Maldives|.* (?:Islands|Republic)$)/, 'the ');

/** `n` things: "1 order", "2 orders". */
export const many = (n, one, more = `${one}s`) => `${number(n)}\u00a0${n === 1 ? one : more}`;

/** An effect as a word: "added to cart". */
export const effect = word => String(word ?? '').replaceAll('_', ' ');

/** The Wilson score interval of k successes in n trials: [low, high], at 95 % unless told. None without trials. */
export function wilson(k, n, z = 1.959964) {
  if (!(n > 0) || k < 0 || k > n) return null;
  const share = k / n;
  const scale = 1 + (z * z) / n;
  const middle = (share + (z * z) / (2 * n)) / scale;
  const half = (z / scale) * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** The least of 1, 2, 5 times a power of ten that is not below `n`. */
export function ceiling(n) {
  if (!(n > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= n * (1 - 1e-12));
}
