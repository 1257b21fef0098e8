/** Which of the eight colours a conversation or person has: by id, so that it is the same everywhere. */
export function colour(id: string): number {
  let h = 0;
  for (let i = 0; i < id.length; i++) h = (h * 31 + id.charCodeAt(i)) >>> 0;
  return h % 8;
}

const han = /\p{Script=Han}/u;

/** One or two characters that stand for a name: the surname of a person, the first two of a group, initials elsewhere. */
export function initials(name: string, group: boolean): string {
  const chars = [...name.trim()].filter((c) => /[\p{L}\p{N}\p{Extended_Pictographic}]/u.test(c));
  const first = chars[0];
  if (!first) return '·';
  if (han.test(first)) return group ? chars.slice(0, 2).join('') : first;
  const words = name.trim().split(/\s+/).map((w) => [...w].find((c) => /[\p{L}\p{N}]/u.test(c))).filter((c): c is string => !!c);
  return (words.length > 1 ? words[0]! + words[1]! : first).toUpperCase();
}
