/** The emoji of the picker: those that people send, not all there are; any other can be typed. */
import type { Key } from '../i18n/en';

const split = (s: string) => s.split(' ');

export const groups: Array<{ label: Key & `emoji.${string}`; emoji: string[] }> = [
  { label: 'emoji.faces', emoji: split('😀 😃 😄 😁 😆 😅 😂 🤣 😊 😇 🙂 🙃 😉 😌 😍 🥰 😘 😋 😛 😜 🤪 🤨 🧐 🤓 😎 🥳 😏 😒 😞 😔 😟 😕 🙁 😣 😖 😫 😩 🥺 😢 😭 😤 😠 😡 🤯 😳 🥵 🥶 😱 😨 😰 😥 😓 🤗 🤔 🤭 🤫 😶 😐 😑 😬 🙄 😯 😮 😲 🥱 😴 🤤 😵 🤐 🤢 🤮 🤧 😷 🤒 🤕') },
  { label: 'emoji.gestures', emoji: split('👋 ✋ 👌 🤏 ✌️ 🤞 🤟 🤙 👈 👉 👆 👇 👍 👎 ✊ 👊 👏 🙌 👐 🤝 🙏 💪 ✍️ 👀 🧠 👶 🧒 👦 👧 🧑 👨 👩 🧓 👨‍🏫 👩‍🏫 🧑‍🎓 👨‍💻 👩‍🔬 🙋 🙆 🙅 🤷 🤦 🏃 🚶 💃') },
  { label: 'emoji.nature', emoji: split('🐶 🐱 🐭 🐰 🦊 🐻 🐼 🐨 🐯 🦁 🐮 🐷 🐸 🐵 🐔 🐧 🐦 🐤 🦆 🦉 🐴 🐝 🦋 🐌 🐢 🐍 🐙 🐠 🐬 🐳 🌸 🌹 🌻 🌷 🌱 🌳 🍀 🍁 ☀️ 🌙 ⭐ 🌈 ☁️ 🌧️ ⛄ 🔥 💧') },
  { label: 'emoji.food', emoji: split('🍎 🍊 🍋 🍌 🍉 🍇 🍓 🍑 🥝 🍅 🥕 🌽 🥦 🍞 🧀 🥚 🍳 🍔 🍟 🍕 🌭 🥪 🍜 🍝 🍚 🍙 🍣 🥟 🍦 🍰 🎂 🍪 🍫 🍬 ☕ 🍵 🥛 🥤') },
  { label: 'emoji.things', emoji: split('⚽ 🏀 🏐 🏓 🏸 🥇 🏆 🎮 🎲 🎨 🎵 🎸 🎹 🎤 📷 📱 💻 🖨️ 📞 🔋 💡 📚 📖 📝 ✏️ 📎 📌 📅 📈 📦 ✉️ 🔔 🔒 🔑 🔧 🧪 🎒 👓 ☂️ 🎁 🎈 🎉 🚗 🚌 🚲 ✈️ 🚀 🏫 🏠 🏥') },
  { label: 'emoji.symbols', emoji: split('❤️ 🧡 💛 💚 💙 💜 🖤 🤍 💔 💕 💯 ✅ ❌ ❗ ❓ ⚠️ ♻️ ➕ ➖ ▶️ ⏸️ ⏰ ⌛ 🔴 🟡 🟢 🔵 ⬆️ ⬇️ ⬅️ ➡️ 🔄 🆗 🆘 🈵 🈲 🉑 ㊗️') },
];

const name = 'pipit:emoji';

export function recent(): string[] {
  try {
    return (JSON.parse(localStorage.getItem(name) ?? '[]') as string[]).slice(0, 16);
  } catch {
    return [];
  }
}

export function used(e: string): void {
  localStorage.setItem(name, JSON.stringify([e, ...recent().filter((x) => x !== e)].slice(0, 16)));
}
