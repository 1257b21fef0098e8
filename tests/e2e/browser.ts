/**
 * A real Chromium, and pages that watch themselves: a violation of the
 * Content-Security-Policy, an uncaught error or a request to another host fails
 * the test that made it.
 */
import { chromium, devices, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core';
import AxeBuilder from '@axe-core/playwright';
import { expect } from 'vitest';
import { password, type Server } from './server';

let browser: Browser | undefined;

/** How the browser is started; tests that need one of their own add to it. */
export const launchOptions = () => ({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--force-color-profile=srgb', '--font-render-hinting=none'],
});

export async function launch(): Promise<Browser> {
  return (browser ??= await chromium.launch(launchOptions()));
}

export async function shut(): Promise<void> {
  await browser?.close();
  browser = undefined;
}

export const phone: BrowserContextOptions = { ...devices['Pixel 5'], viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 };
export const desktop: BrowserContextOptions = { viewport: { width: 1280, height: 820 } };

const wrongs = new Map<Page, string[]>();

/** Opens a page of a server, at another address of it if `at` says one; `also` are ports that it may ask too. */
export async function open(server: Server, options: BrowserContextOptions = desktop, context?: BrowserContext, at = server.url, also: number[] = []): Promise<Page> {
  const ctx = context ?? (await (await launch()).newContext({ locale: 'en-GB', timezoneId: 'Europe/Berlin', ...options }));
  ctx.setDefaultTimeout(45_000); // a busy machine is no fault
  const page = await ctx.newPage();
  const wrong: string[] = [];
  wrongs.set(page, wrong);
  page.on('pageerror', (e) => wrong.push(`error: ${e.stack ?? e}`));
  page.on('request', (r) => {
    const u = new URL(r.url());
    if (/^(https?|wss?):$/.test(u.protocol) && ![server.port, ...also].map(String).includes(u.port)) wrong.push(`another host: ${r.url()}`);
  });
  page.on('console', (m) => {
    if (m.type() !== 'error') return;
    const text = m.text();
    if (/Content Security Policy|violates/i.test(text)) wrong.push(`CSP: ${text}`);
    else if (!/Failed to load resource|WebSocket connection|net::ERR|Cross-Origin-Opener-Policy header has been ignored/.test(text)) wrong.push(`console: ${text}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`Content Security Policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  await page.goto(at);
  return page;
}

/** What went wrong on a page so far. */
export const wrong = (page: Page) => wrongs.get(page) ?? [];

/** Nothing did; call it at the end of every test. */
export function clean(...pages: Page[]): void {
  for (const p of pages) expect(wrongs.get(p) ?? []).toEqual([]);
}

export async function enter(page: Page, username: string): Promise<void> {
  await page.locator('input[autocomplete=username]').fill(username);
  await page.locator('#password').fill(password);
  await page.locator('form .btn').click();
  await page.locator('.shell').waitFor();
}

/** Opens a page and signs in. */
export async function signedIn(server: Server, username: string, options?: BrowserContextOptions): Promise<Page> {
  const page = await open(server, options);
  await enter(page, username);
  return page;
}

/** axe-core finds nothing serious here (WCAG 2.2 A and AA). */
// Legacy mode looks in the page itself; the other opens a further page each time for
// frames of other origins, and ours have none.
export async function accessible(page: Page, where: string): Promise<void> {
  const r = await new AxeBuilder({ page }).setLegacyMode(true).options({ resultTypes: ['violations'] }).withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']).analyze();
  const bad = r.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
  expect(bad.map((v) => `${where}: ${v.id}: ${v.help}\n${v.nodes.map((n) => n.html + '\n  ' + n.failureSummary).join('\n')}`)).toEqual([]);
}

export const log = (page: Page) => page.locator('[role=log]');
export const composer = (page: Page) => page.locator('#composer');

export async function say(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press('Enter');
}

/** The texts on the screen, in order. */
export const texts = (page: Page) => page.locator('[role=log] article .bubble').allInnerTexts().then((all) => all.map((t) => t.trim()));
