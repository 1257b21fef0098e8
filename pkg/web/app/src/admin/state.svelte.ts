/** What all pages of the console want to know: whether this organisation keeps the box. */
import { call, type Settings } from '../state/api';

let settings = $state.raw<Settings | undefined>();
let asked: Promise<unknown> | undefined;

export const admin = {
  /** Undefined while it is not known. */
  get keeper(): boolean | undefined {
    return settings ? settings.keeper === true : undefined;
  },
  load(): void {
    asked ??= call<Settings>('GET', '/v1/tenant/settings').then((s) => (settings = s), () => (asked = undefined));
  },
};
