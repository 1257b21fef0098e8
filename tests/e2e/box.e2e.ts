import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Page } from 'playwright-core';
import { accessible, clean, phone, shut, signedIn } from './browser';
import { hostile, inert, keeper, visit } from './console';
import type { Server } from './server';

let server: Server;
beforeAll(async () => {
  server = await keeper({ username: 'adam', name: 'Adam', role: 'admin' });
}, 120_000);
afterAll(async () => {
  await shut();
  await server?.close();
});

const go = (page: Page, to: string) => visit(server, page, to);

test('the box: live figures, a backup, other organisations; for its keeper alone', async () => {
  // An admin looks at the box and not at the other organisations.
  const adam = await signedIn(server, 'adam', phone);
  await adam.goto(`${server.url}/#/admin`);
  await adam.getByRole('link', { name: 'Backups' }).waitFor();
  expect(await adam.getByRole('link', { name: 'Organisations' }).count()).toBe(0);
  await adam.getByRole('link', { name: 'Backups' }).click();
  await expect.poll(() => adam.evaluate(() => document.activeElement?.tagName)).toBe('H1');
  await adam.getByRole('button', { name: 'Back', exact: true }).click();
  await adam.getByRole('link', { name: 'Backups' }).waitFor();
  clean(adam);
  await adam.context().close();

  const page = await signedIn(server, 'linxiao');
  await go(page, 'box');
  await page.getByText('People online').first().waitFor();
  await page.locator('figure.chart').nth(3).waitFor({ timeout: 60_000 });
  await page.getByText(/People online in the last 15 minutes: now 1/).waitFor({ state: 'attached' });
  // In a hidden tab nobody asks.
  let asked = 0;
  page.on('request', (r) => r.url().includes('/v1/box') && asked++);
  await page.waitForTimeout(6000);
  expect(asked).toBeLessThan(8); // two each five seconds, and the backups each minute
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(6000); // one that was planned may still look, and stop there
  const before = asked;
  await page.waitForTimeout(6000);
  expect(asked).toBe(before);
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: false, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await expect.poll(() => asked).toBeGreaterThan(before);

  await go(page, 'backups');
  await page.getByText('never yet').waitFor();
  await page.getByRole('button', { name: 'Back up now' }).click();
  await page.getByText(/records read back/).waitFor();
  await expect.poll(() => page.locator('tbody tr').count()).toBe(1);

  await go(page, 'tenants');
  await page.getByRole('button', { name: 'Add an organisation' }).click();
  await page.getByLabel('Name of the organisation').fill(`Elm ${hostile}`);
  await page.getByLabel(/^Short name/).fill('elm');
  await page.getByLabel(/^Name of its first owner/).fill('Eve Elm');
  await page.getByRole('dialog').getByRole('button', { name: 'Add an organisation' }).click();
  await page.locator('dialog .code').waitFor();
  await accessible(page, 'the first owner’s code');
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByRole('button', { name: /^Elm/ }).click();
  await page.getByRole('dialog').getByLabel('People').fill('1');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('meter', { name: 'People' }).waitFor();
  await accessible(page, 'organisation');
  await page.getByRole('button', { name: 'Suspend' }).click();
  await page.getByRole('dialog').getByText('Nobody can sign in. Nothing is lost.').waitFor();
  await page.getByRole('button', { name: 'Resume' }).click();
  const [zip] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Export' }).click()]);
  expect(zip.suggestedFilename()).toBe('elm.zip');
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByLabel('Type elm to delete it').fill('elm');
  await page.getByRole('button', { name: 'Delete', exact: true }).last().click();
  await page.getByRole('button', { name: 'Bring it back' }).click();
  await page.getByRole('button', { name: 'Suspend' }).waitFor();
  await inert(page);
  clean(page);
  await page.context().close();
});
