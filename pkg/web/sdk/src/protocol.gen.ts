// Code generated from protocol.json by gen_protocol.go. DO NOT EDIT.

export type EntryKind = 'message' | 'edit' | 'recall' | 'reaction' | 'pin' | 'member' | 'meta';
export type ConversationKind = 'direct' | 'group' | 'channel' | 'notice';
export type MemberRole = 'owner' | 'moderator' | 'member' | 'reader';
export type MemberChange = 'joined' | 'left' | 'role';
export type Role = 'owner' | 'admin' | 'staff' | 'member' | 'guest' | 'guardian' | 'bot';
export type PresenceState = 'online' | 'away' | 'offline';
export type PresenceRow = [user: string, state: PresenceState, since: number];
export type Retry = 'no' | 'sign-in' | 'then' | 'later' | 'once';

export interface Empty {
}

export interface Seq {
  seq: number;
  time: number;
  repeat?: boolean;
}

export interface Time {
  time: number;
}

export interface User {
  id: string;
  username: string;
  name: string;
  role: Role | '';
}

export interface Peer {
  id: string;
  username: string;
  name: string;
}

export interface Tenant {
  id: string;
  name: string;
}

export interface Limits {
  frame_bytes: number;
  text_bytes: number;
  sends_per_minute: number;
}

export interface ReactionCount {
  emoji: string;
  count: number;
  mine?: boolean;
}

export interface Entry {
  conversation: string;
  seq: number;
  time: number;
  by: string;
  kind: EntryKind | '';
  text?: string;
  reply_to?: number;
  mentions?: string[];
  target?: number;
  emoji?: string;
  on?: boolean;
  user?: string;
  change?: MemberChange | '';
  role?: MemberRole | '';
  title?: string;
  key?: string;
  edited?: number;
  recalled?: boolean;
  reactions?: ReactionCount[];
  pinned?: boolean;
  archived?: boolean;
  cut?: boolean;
}

export interface Head {
  id: string;
  kind: ConversationKind | '';
  title?: string;
  head?: number;
  read?: number;
  unread?: number;
  mentions?: number;
  role?: MemberRole | '';
  members?: number;
  updated?: number;
  last?: Entry;
  peer?: Peer;
  peer_read?: number;
  archived?: boolean;
  left?: boolean;
  repeat?: boolean;
}

export interface Hello {
  session: string;
  user: User;
  tenant: Tenant;
  epoch: string;
  sync?: string;
  time: number;
  heartbeat_ms: number;
  limits: Limits;
  conversations: Head[];
  next?: string;
  full?: boolean;
}

export interface Heads {
  conversations: Head[];
  next?: string;
  sync?: string;
  full?: boolean;
}

export interface Channel {
  id: string;
  kind: ConversationKind | '';
  title: string;
  members: number;
  joined: boolean;
}

export interface Found {
  conversations: Channel[];
  next?: string;
}

export interface Member {
  user: string;
  name: string;
  username: string;
  role: MemberRole | '';
  joined: number;
}

export interface Members {
  members: Member[];
  next?: string;
}

export interface Users {
  users: User[];
}

export interface Page {
  entries: Entry[];
  head: number;
}

export interface Pins {
  entries: Entry[];
}

export interface Counts {
  read: number;
  unread: number;
}

export interface ReadList {
  read: string[];
  unread: string[];
  counts: Counts;
  next?: string;
}

export interface Presence {
  users: PresenceRow[];
}

export interface Read {
  conversation: string;
  user: string;
  seq: number;
}

export interface Typing {
  conversation: string;
  user: string;
}

/** Every method with its params and its result (PROTOCOL 3 to 8). */
export interface Methods {
  'session.hello': { params: { token?: string; client?: string; epoch?: string; sync?: string }; result: Hello };
  'session.ping': { params: { [name: string]: never }; result: Time };
  'conversation.list': { params: { cursor?: string; sync?: string; limit?: number }; result: Heads };
  'conversation.find': { params: { query?: string; cursor?: string; limit?: number }; result: Found };
  'conversation.direct': { params: { user: string }; result: Head };
  'conversation.create': { params: { kind: ConversationKind; title: string; members?: string[]; key: string }; result: Head };
  'conversation.get': { params: { id: string }; result: Head };
  'conversation.update': { params: { id: string; title: string }; result: Head };
  'conversation.join': { params: { id: string }; result: Head };
  'conversation.leave': { params: { id: string }; result: Empty };
  'conversation.invite': { params: { id: string; users: string[] }; result: Empty };
  'conversation.remove': { params: { id: string; users: string[] }; result: Empty };
  'conversation.set_role': { params: { id: string; user: string; role: MemberRole }; result: Empty };
  'conversation.members': { params: { id: string; cursor?: string; limit?: number }; result: Members };
  'user.search': { params: { query: string; limit?: number }; result: Users };
  'user.get': { params: { users: string[] }; result: Users };
  'message.send': { params: { conversation: string; key: string; text: string; reply_to?: number; mentions?: string[] }; result: Seq };
  'message.history': { params: { conversation: string; after?: number; before?: number; limit?: number }; result: Page };
  'message.edit': { params: { conversation: string; target: number; text: string; key: string }; result: Seq };
  'message.recall': { params: { conversation: string; target: number; key: string }; result: Seq };
  'message.react': { params: { conversation: string; target: number; emoji: string; on: boolean; key: string }; result: Seq };
  'message.pin': { params: { conversation: string; target: number; on: boolean; key: string }; result: Seq };
  'message.pins': { params: { conversation: string }; result: Pins };
  'read.mark': { params: { conversation: string; seq: number }; result: Empty };
  'read.list': { params: { conversation: string; seq: number; cursor?: string; limit?: number }; result: ReadList };
  'typing': { params: { conversation: string }; result: Empty };
  'presence.watch': { params: { users: string[] }; result: Presence };
  'presence.set': { params: { state: PresenceState }; result: Empty };
}

/** Every event with its params. */
export interface Events {
  'entry': Entry;
  'conversation.changed': Head;
  'read': Read;
  'typing': Typing;
  'presence': Presence;
}

export type ErrorKind = 'invalid' | 'unauthenticated' | 'forbidden' | 'not_found' | 'exists' | 'conflict' | 'too_large' | 'rate_limited' | 'unavailable' | 'internal';

/** What the decoder walks: a member's type by its name; `?` after it: it may be absent. */
export const enums: Record<string, readonly string[]> = {
  EntryKind: ['message', 'edit', 'recall', 'reaction', 'pin', 'member', 'meta'],
  ConversationKind: ['direct', 'group', 'channel', 'notice'],
  MemberRole: ['owner', 'moderator', 'member', 'reader'],
  MemberChange: ['joined', 'left', 'role'],
  Role: ['owner', 'admin', 'staff', 'member', 'guest', 'guardian', 'bot'],
  PresenceState: ['online', 'away', 'offline'],
};

export const shapes: Record<string, Record<string, string>> = {
  empty: { },
  seq: { seq: 'int', time: 'int', repeat: 'bool?' },
  time: { time: 'int' },
  user: { id: 'string', username: 'string', name: 'string', role: 'Role' },
  peer: { id: 'string', username: 'string', name: 'string' },
  tenant: { id: 'string', name: 'string' },
  limits: { frame_bytes: 'int', text_bytes: 'int', sends_per_minute: 'int' },
  reaction_count: { emoji: 'string', count: 'int', mine: 'bool?' },
  entry: { conversation: 'string', seq: 'int', time: 'int', by: 'string', kind: 'EntryKind', text: 'string?', reply_to: 'int?', mentions: '[string]?', target: 'int?', emoji: 'string?', on: 'bool?', user: 'string?', change: 'MemberChange?', role: 'MemberRole?', title: 'string?', key: 'string?', edited: 'int?', recalled: 'bool?', reactions: '[reaction_count]?', pinned: 'bool?', archived: 'bool?', cut: 'bool?' },
  head: { id: 'string', kind: 'ConversationKind', title: 'string?', head: 'int?', read: 'int?', unread: 'int?', mentions: 'int?', role: 'MemberRole?', members: 'int?', updated: 'int?', last: 'entry?', peer: 'peer?', peer_read: 'int?', archived: 'bool?', left: 'bool?', repeat: 'bool?' },
  hello: { session: 'string', user: 'user', tenant: 'tenant', epoch: 'string', sync: 'string?', time: 'int', heartbeat_ms: 'int', limits: 'limits', conversations: '[head]', next: 'string?', full: 'bool?' },
  heads: { conversations: '[head]', next: 'string?', sync: 'string?', full: 'bool?' },
  channel: { id: 'string', kind: 'ConversationKind', title: 'string', members: 'int', joined: 'bool' },
  found: { conversations: '[channel]', next: 'string?' },
  member: { user: 'string', name: 'string', username: 'string', role: 'MemberRole', joined: 'int' },
  members: { members: '[member]', next: 'string?' },
  users: { users: '[user]' },
  page: { entries: '[entry]', head: 'int' },
  pins: { entries: '[entry]' },
  counts: { read: 'int', unread: 'int' },
  read_list: { read: '[string]', unread: '[string]', counts: 'counts', next: 'string?' },
  presence: { users: '[presence_row]' },
  read: { conversation: 'string', user: 'string', seq: 'int' },
  typing: { conversation: 'string', user: 'string' },
};

export const results: { [M in keyof Methods]: string } = {
  'session.hello': 'hello',
  'session.ping': 'time',
  'conversation.list': 'heads',
  'conversation.find': 'found',
  'conversation.direct': 'head',
  'conversation.create': 'head',
  'conversation.get': 'head',
  'conversation.update': 'head',
  'conversation.join': 'head',
  'conversation.leave': 'empty',
  'conversation.invite': 'empty',
  'conversation.remove': 'empty',
  'conversation.set_role': 'empty',
  'conversation.members': 'members',
  'user.search': 'users',
  'user.get': 'users',
  'message.send': 'seq',
  'message.history': 'page',
  'message.edit': 'seq',
  'message.recall': 'seq',
  'message.react': 'seq',
  'message.pin': 'seq',
  'message.pins': 'pins',
  'read.mark': 'empty',
  'read.list': 'read_list',
  'typing': 'empty',
  'presence.watch': 'presence',
  'presence.set': 'empty',
};

/** Methods whose requests append under a key, and may be sent again unchanged (PROTOCOL 6.2). */
export type KeyedMethod =
  | 'conversation.create'
  | 'message.send'
  | 'message.edit'
  | 'message.recall'
  | 'message.react'
  | 'message.pin';

/** Methods that are sent without an id and get no reply (PROTOCOL 2.2). */
export type Notification = | 'typing' | 'presence.set';

export const events: { [E in keyof Events]: string } = {
  'entry': 'entry',
  'conversation.changed': 'head',
  'read': 'read',
  'typing': 'typing',
  'presence': 'presence',
};

export const retries: Record<ErrorKind, Retry> = {
  invalid: 'no',
  unauthenticated: 'sign-in',
  forbidden: 'no',
  not_found: 'no',
  exists: 'no',
  conflict: 'no',
  too_large: 'no',
  rate_limited: 'then',
  unavailable: 'later',
  internal: 'once',
};
