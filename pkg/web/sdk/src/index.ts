/** @pipit/sdk: the Pipit wire protocol for browsers and Node (see README.md). */
export { Client, type ClientEvents, type Options, type State } from './client.js';
export { type Socket, type SocketFactory } from './connection.js';
export { IndexedDBStore } from './indexeddb.js';
export { newKey, type OutboxItem, type Pause } from './outbox.js';
export * from './protocol.gen.js';
export { rest, signIn, signOut, type SignedIn } from './rest.js';
export { MemoryStore, type Change, type Store, type Table } from './store.js';
export { Timeline, changedBy, type Item, type Saved } from './timeline.js';
export { closeAction, ConnectionLost, decodeEvent, decodeMessage, decodeResult, decodeShape, encodeRequest, PipitError, type CloseAction } from './wire.js';
