/** What the tests of the console share: an organisation that keeps the box, and looking at a page of it. */
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import { Server, type Person } from './server';

export const hostile = '<img src=x onerror=window.owned=1>';

/** A box with a condition of its health, kept by 橡树小学, whose owner is linxiao. */
export async function keeper(...people: Person[]): Promise<Server> {
  const server = await Server.cramped(4096);
  server.tenant('oakhill', '橡树小学');
  server.people({ username: 'linxiao', name: '林晓', role: 'owner' }, ...people);
  server.tool(['tenant', 'keeper', 'oakhill']);
  server.tool(['backup', 'key']);
  return server;
}

/** Goes to a page of the console. */
export async function visit(server: Server, page: Page, to: string): Promise<void> {
  await page.goto(`${server.url}/#/admin/${to}`);
  await page.locator('.console h1').waitFor();
}

/** Nothing that was typed became more than text. */
export async function inert(page: Page): Promise<void> {
  expect(await page.evaluate(() => (window as any).owned)).toBeUndefined();
  expect(await page.locator('.console img, .console script, .console iframe').count()).toBe(0);
}
