/** Typed listeners. One that throws does not keep the others from hearing. */
export class Emitter<E extends { [N in keyof E]: unknown[] }> {
  private readonly listeners = new Map<keyof E, Set<(...args: any[]) => void>>();

  /** Listens; the returned function ends it. */
  on<N extends keyof E>(name: N, fn: (...args: E[N]) => void): () => void {
    let set = this.listeners.get(name);
    if (!set) this.listeners.set(name, (set = new Set()));
    set.add(fn);
    return () => set.delete(fn);
  }

  protected emit<N extends keyof E>(name: N, ...args: E[N]): void {
    for (const fn of [...(this.listeners.get(name) ?? [])]) {
      try {
        fn(...args);
      } catch (e) {
        queueMicrotask(() => {
          throw e; // the program's own bug: shown by whoever shows uncaught errors
        });
      }
    }
  }
}
