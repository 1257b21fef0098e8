// The line protocol with signin_test.go: this side says one JSON object a line, and
// reads one line when it wants something of the browser, which the test is.
import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export const say = (object) => process.stdout.write(JSON.stringify(object) + '\n');

// done says that all went well and ends the script.
export const done = (object = {}) => process.stdout.write(JSON.stringify({ done: true, ...object }) + '\n', () => process.exit(0));

// visit has the browser go to an address and returns where it was sent in the end.
export async function visit(address) {
  say({ visit: String(address) });
  const { value } = await lines.next();
  return new URL(value);
}

export const args = JSON.parse(process.argv[2] ?? '{}');

export function check(what, ok) {
  if (!ok) throw new Error('not so: ' + what);
}

// refused runs fn, which must fail.
export async function refused(what, fn) {
  try {
    await fn();
  } catch (err) {
    return err;
  }
  throw new Error('was let pass: ' + what);
}
