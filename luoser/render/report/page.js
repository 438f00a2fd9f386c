// SPDX-License-Identifier: MIT
"use strict";
document.documentElement.classList.add("scripted");

const hex = (value) => "0x" + Math.round(value).toString(16);

function sized(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (bytes >= 1024 && place < units.length - 1) { bytes /= 1024; place += 1; }
  return `${Number(bytes.toPrecision(3))} ${units[place]}`;
}

// The memory map. Addresses have at most 52 bits, which a number holds exactly.
function memoryMap(map) {
  const low = Number(map.dataset.low), high = Number(map.dataset.high), least = Math.min(4096 * 4, high - low);
  const frame = map.querySelector(".frame"), svg = map.querySelector("svg"), axis = map.querySelectorAll(".axis span");
  const status = map.querySelector(".status");
  const ranges = [...svg.querySelectorAll("rect[data-a]")].map((rect) => (
    { rect, start: Number(rect.dataset.a), end: Number(rect.dataset.z), text: rect.querySelector("title").textContent }
  ));
  let view = [low, high];
  const before = [];

  function draw() {
    const [start, end] = view, scale = 1000 / (end - start), thin = 1500 / (svg.clientWidth || 1000);
    for (const { rect, start: first, end: last } of ranges) {
      const left = Math.max(first, start), right = Math.min(last, end);
      rect.setAttribute("visibility", right <= left ? "hidden" : "visible");
      if (right > left) {
        const width = Math.max((right - left) * scale, thin);
        rect.setAttribute("x", Math.min((left - start) * scale, 1000 - width));
        rect.setAttribute("width", width);
      }
    }
    axis[0].textContent = hex(start);
    axis[1].textContent = sized(end - start);
    axis[2].textContent = hex(end);
  }

  function show(start, end, text) {
    const size = Math.min(Math.max(end - start, least), high - low);
    start = Math.min(Math.max((start + end - size) / 2, low), high - size);
    if (start === view[0] && start + size === view[1]) { return; }
    before.push(view);
    view = [start, start + size];
    draw();
    status.textContent = text || `${hex(view[0])} to ${hex(view[1] - 1)}, ${sized(size)}`;
  }

  function choose(range) {
    for (const { rect } of ranges) { rect.classList.remove("chosen"); }
    range.rect.classList.add("chosen");
    const margin = Math.max((range.end - range.start) * 1.5, 4096 * 8);
    show(range.start - margin, range.end + margin, range.text);
    status.textContent = range.text;
  }

  const act = {
    in: () => { const size = view[1] - view[0]; show(view[0] + size / 4, view[1] - size / 4); },
    out: () => { const size = view[1] - view[0]; show(view[0] - size / 2, view[1] + size / 2); },
    left: () => { const step = (view[1] - view[0]) / 4; show(view[0] - step, view[1] - step); },
    right: () => { const step = (view[1] - view[0]) / 4; show(view[0] + step, view[1] + step); },
    all: () => show(low, high),
    back: () => {
      if (before.length) { view = before.pop(); draw(); status.textContent = `${hex(view[0])} to ${hex(view[1] - 1)}`; }
    },
  };
  const keys = {
    "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all", Home: "all",
    Escape: "back", Backspace: "back",
  };

  map.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.dataset.do) {
      act[button.dataset.do]();
    } else if (button && button.dataset.colour) {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const other of map.querySelectorAll("[aria-pressed]")) { other.setAttribute("aria-pressed", "false"); }
      button.setAttribute("aria-pressed", String(pressed));
      for (const { rect } of ranges) {
        const isMeant = !pressed || rect.classList.contains(button.dataset.colour);
        rect.classList.toggle("faded", !isMeant);
      }
    } else if (button && button.dataset.a) {
      choose(ranges.find(({ rect }) => rect.dataset.a === button.dataset.a && rect.dataset.z === button.dataset.z));
      frame.scrollIntoView({ block: "center" });
      frame.focus({ preventScroll: true });
    } else if (svg.contains(event.target)) {
      const range = ranges.find(({ rect }) => rect === event.target);
      if (range && (range.end - range.start) < (view[1] - view[0]) / 2) { choose(range); return; }
      const box = svg.getBoundingClientRect(), size = view[1] - view[0];
      const place = view[0] + size * (event.clientX - box.left) / box.width;
      show(place - size / 8, place + size / 8);
    }
  });
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "Memory map. Plus and minus zoom, the arrow keys move, 0 shows all, Escape goes back.");
  frame.addEventListener("keydown", (event) => {
    const name = keys[event.key];
    if (name && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act[name](); }
  });
  addEventListener("resize", draw);
  draw();
}

// The search in sessions and files.
function search(block) {
  const field = block.querySelector("input"), count = block.querySelector(".count");
  const sessions = [...block.querySelectorAll(".session")].map((session) => ({
    session, wasOpen: session.open, head: session.querySelector("summary").textContent.toLowerCase(),
    files: [...session.querySelectorAll("tbody tr")].map((row) => ({ row, text: row.textContent.toLowerCase() })),
  }));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, files = 0;
    for (const { session, wasOpen, head, files: rows } of sessions) {
      const isAll = words.every((word) => head.includes(word));
      let own = 0;
      for (const { row, text } of rows) {
        row.hidden = !(isAll || words.every((word) => text.includes(word) || head.includes(word)));
        own += row.hidden ? 0 : 1;
      }
      session.hidden = words.length > 0 && !isAll && !own;
      session.open = words.length ? !session.hidden : wasOpen;
      shown += session.hidden ? 0 : 1;
      files += own;
    }
    count.textContent = words.length ? `${shown} sessions, ${files} files` : "";
  });
}

// The state is packed in the link, which works without a script, too. With one it is saved unpacked.
async function save(event) {
  const link = event.currentTarget;
  if (!("DecompressionStream" in window)) { return; }
  event.preventDefault();
  const packed = Uint8Array.from(atob(link.href.split(",", 2)[1]), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const blob = await new Response(stream).blob();
  const plain = document.createElement("a");
  plain.href = URL.createObjectURL(new Blob([blob], { type: "application/json" }));
  plain.download = link.download.replace(/\.gz$/, "");
  plain.click();
  setTimeout(() => URL.revokeObjectURL(plain.href), 60000);
}

document.querySelectorAll(".map").forEach(memoryMap);
document.querySelectorAll(".sessions").forEach(search);
document.querySelectorAll("a.save").forEach((link) => {
  link.addEventListener("click", save);
  if ("DecompressionStream" in window) { link.textContent = link.textContent.replace(/\.gz$/, ""); }
});

// Paper has no clicks: explanations and sessions are open on it.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.print:not([open])")];
  for (const one of opened) { one.open = true; }
});
addEventListener("afterprint", () => { for (const one of opened) { one.open = false; } });
