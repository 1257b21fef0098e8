/** Chinese texts with names and figures in them: what stands beside a name is known only when it is read. */
const isHan = /\p{Script=Han}/u;
const isLatin = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Nd}]/u;

/** A space where a Chinese character meets a Latin one or a digit, none between two Chinese ones; only at the seams, so that a name stays as its owner writes it. */
function sewn(left: string, right: string): string {
  const [l, r] = [left.trimEnd(), right.trimStart()];
  const [a, b] = [[...l].at(-1) ?? '', [...r][0] ?? ''];
  if (isHan.test(a) && isHan.test(b)) return l + r;
  return (isHan.test(a) && isLatin.test(b)) || (isLatin.test(a) && isHan.test(b)) ? `${l} ${r}` : left + right;
}

export const sew = (parts: string[]) => parts.reduce(sewn, '');

/** The tag of each Chinese text with something in it. */
export const han = (texts: TemplateStringsArray, ...values: Array<string | number>) => sew(texts.flatMap((text, i) => [text, String(values[i] ?? '')]));
