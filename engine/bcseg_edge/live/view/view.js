"use strict";
// One message is one picture with what was found in it; nothing is drawn from two messages.
const byId = (id) => document.getElementById(id);
const STALLED_MS = 1500; // no result for so long: whatever is on the screen is no longer live
const SILENT_MS = 5000; // no health, which comes each second, for so long: nor is what does not grow old
const MINUTE_MS = 60000;
const STATES = {
  ok: ["●", "LIVE", ""],
  frozen: ["❚❚", "SCANNER FROZEN", "the mask belongs to this image"],
  held: ["❚❚", "VIEW FROZEN", "the scan goes on; press F to resume"],
  blank: ["○", "NO IMAGE", "the scanner shows nothing to segment"],
  stale: ["!", "TOO LATE", "no mask: this image got no result in time"],
  lost: ["×", "NO SIGNAL", "the source gives nothing; last image"],
  stalled: ["!", "STANDING STILL", "no new result; not live"],
  offline: ["×", "NO CONNECTION", "to the cart; trying again"],
};
const WITH_MASK = new Set(["ok", "frozen", "held"]);
const css = getComputedStyle(document.documentElement);
const colour = (name) => css.getPropertyValue("--" + name).trim();
const CLASSES = { benign: { dash: [], colour: colour("benign") }, malignant: { dash: [9, 6], colour: colour("malignant") } };

let socket = null;
let shown = null; // { facts, bitmap }
let receivedAt = -Infinity;
let healthAt = -Infinity;
let lossless = false; // images come one by one and do not grow old
let held = false;
let overlay = true;
let opacity = Number(byId("opacity").value) / 100;
let deadline = null;
let snapshots = null;
let retryMs = 500;
let toastTimer = 0;
let lastState = "";
const ages = []; // [time, ms]
const rates = []; // [time, per second]

function isStalled() {
  if (!shown) return true;
  const now = performance.now();
  if ((lossless || shown.facts.held) && now - healthAt < SILENT_MS) return false;
  return now - receivedAt > STALLED_MS;
}

function stateNow() {
  if (!socket || socket.readyState !== WebSocket.OPEN) return "offline";
  if (isStalled()) return shown && shown.facts.validity === "lost" ? "lost" : "stalled";
  return shown.facts.held && WITH_MASK.has(shown.facts.validity) ? "held" : shown.facts.validity;
}

function refreshState() {
  const state = stateNow();
  if (state === lastState) return;
  lastState = state;
  const [mark, name, note] = STATES[state];
  byId("validity").className = "validity " + state;
  byId("validity-mark").textContent = mark;
  byId("validity-name").textContent = name;
  byId("validity-note").textContent = note;
  document.title = (state === "ok" ? "" : name + " – ") + "bcseg-edge live";
  byId("stage").classList.toggle("nomask", state !== "ok");
  byId("stage").classList.toggle("calm", state === "frozen" || state === "held");
  byId("stage").classList.toggle("faded", ["lost", "stalled", "offline"].includes(state));
  draw();
  fillLesions();
}

function lesionsNow() {
  return shown && WITH_MASK.has(lastState) ? shown.facts.lesions : [];
}

function place(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height, ratio];
}

function draw() {
  const canvas = byId("image");
  const [pen, width, height, ratio] = place(canvas);
  if (!shown) return;
  const [imageWidth, imageHeight] = shown.facts.size_wh;
  const scale = Math.min(width / imageWidth, height / imageHeight);
  const left = (width - imageWidth * scale) / 2;
  const top = (height - imageHeight * scale) / 2;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(shown.bitmap, left, top, imageWidth * scale, imageHeight * scale);
  const lesions = lesionsNow();
  canvas.setAttribute("aria-label", `Ultrasound image, ${STATES[lastState || "offline"][1].toLowerCase()}, ${lesions.length} lesions`);
  if (!overlay || !WITH_MASK.has(lastState)) return;
  drawCrop(pen, left, top, scale, ratio);
  for (const [name, rings] of Object.entries(shown.facts.outlines)) {
    const path = new Path2D();
    for (const ring of rings) {
      for (let i = 0; i < ring.length; i += 2) {
        const x = left + (ring[i] + 0.5) * scale;
        const y = top + (ring[i + 1] + 0.5) * scale;
        if (i === 0) path.moveTo(x, y);
        else path.lineTo(x, y);
      }
      path.closePath();
    }
    pen.fillStyle = CLASSES[name].colour;
    pen.globalAlpha = opacity;
    pen.fill(path, "evenodd");
    pen.globalAlpha = 1;
    pen.lineJoin = "round";
    pen.setLineDash([]);
    pen.lineWidth = 5 * ratio;
    pen.strokeStyle = "rgba(0,0,0,.75)";
    pen.stroke(path);
    pen.setLineDash(CLASSES[name].dash.map((length) => length * ratio));
    pen.lineWidth = 2.5 * ratio;
    pen.strokeStyle = CLASSES[name].colour;
    pen.stroke(path);
    pen.setLineDash([]);
  }
  drawLabels(pen, lesions, left, top, scale, ratio, width, height);
}

// What is segmented, so that a crop that was found automatically can be judged.
function drawCrop(pen, left, top, scale, ratio) {
  if (!shown.facts.crop_xywh) return;
  const [x, y, width, height] = shown.facts.crop_xywh.map((value) => value * scale);
  pen.setLineDash([4 * ratio, 4 * ratio]);
  pen.lineWidth = 1.5 * ratio;
  pen.strokeStyle = "rgba(255,255,255,.7)";
  pen.strokeRect(left + x, top + y, width, height);
  pen.setLineDash([]);
}

function drawLabels(pen, lesions, left, top, scale, ratio, width, height) {
  const size = 15 * ratio;
  const taken = [];
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const lesion of lesions) {
    const text = [idOf(lesion), lesion.name, percent(lesion), sizeOf(lesion)].filter(Boolean).join("  ");
    const box = { width: pen.measureText(text).width + 16 * ratio, height: size * 1.7 };
    const [x, y, w, h] = lesion.bbox_xywh.map((value) => value * scale);
    const gap = 6 * ratio;
    for (const at of [top + y - box.height - gap, top + y + h + gap, top + y + gap]) {
      box.left = Math.min(Math.max(left + x, 0), width - box.width);
      box.top = at;
      if (at < 0 || at + box.height > height || taken.some((other) => overlaps(box, other))) continue;
      taken.push({ ...box });
      pen.fillStyle = CLASSES[lesion.name].colour;
      pen.beginPath();
      pen.roundRect(box.left, box.top, box.width, box.height, 5 * ratio);
      pen.fill();
      pen.fillStyle = lesion.name === "benign" ? "#fff" : "#14100c";
      pen.fillText(text, box.left + 8 * ratio, box.top + box.height / 2);
      break;
    }
  }
}

const overlaps = (a, b) => a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;
const idOf = (lesion) => (lesion.track_id === null ? "" : "#" + lesion.track_id);
const percent = (lesion) => Math.round(lesion.confidence * 100) + " %";
const sizeOf = (lesion) => lesion.axes.map((axis) => (lesion.unit === "mm" ? axis.toFixed(1) : String(Math.round(axis)))).join(" × ") + " " + lesion.unit;

function cell(row, text, className) {
  const node = row.insertCell();
  if (className) node.className = className;
  if (text !== null) node.textContent = text;
  return node;
}

function fillLesions() {
  const lesions = lesionsNow();
  const body = document.createElement("tbody");
  body.id = "lesions";
  byId("lesion-count").textContent = WITH_MASK.has(lastState) ? String(lesions.length) : "–";
  for (const lesion of lesions) {
    const row = body.insertRow();
    cell(row, idOf(lesion) || "–");
    const chip = document.createElement("span");
    chip.className = "chip " + lesion.name;
    chip.textContent = lesion.name;
    cell(row, null).append(chip);
    cell(row, sizeOf(lesion), "number");
    cell(row, percent(lesion), "number");
  }
  if (!lesions.length) {
    const none = cell(body.insertRow(), WITH_MASK.has(lastState) ? "none found" : "not known: no current mask", "none");
    none.colSpan = 4;
  }
  byId("lesions").replaceWith(body);
}

function chart(id, samples, limit, floor) {
  const [pen, width, height, ratio] = place(byId(id));
  const now = performance.now();
  while (samples.length && now - samples[0][0] > MINUTE_MS) samples.shift();
  const top = Math.max(floor, limit || 0, ...samples.map((sample) => sample[1])) * 1.1;
  const y = (value) => height - (value / top) * height;
  pen.fillStyle = "#0b0e11";
  pen.fillRect(0, 0, width, height);
  if (limit) {
    pen.strokeStyle = colour("warn");
    pen.setLineDash([4 * ratio, 4 * ratio]);
    pen.beginPath();
    pen.moveTo(0, y(limit));
    pen.lineTo(width, y(limit));
    pen.stroke();
    pen.setLineDash([]);
  }
  pen.strokeStyle = colour("calm");
  pen.lineWidth = 1.5 * ratio;
  pen.lineJoin = "round";
  pen.beginPath();
  let before = -Infinity;
  for (const [time, value] of samples) {
    const x = width - ((now - time) / MINUTE_MS) * width;
    if (time - before > 2500) pen.moveTo(x, y(value));
    else pen.lineTo(x, y(value));
    before = time;
  }
  pen.stroke();
}

function pairs(id, entries) {
  byId(id).replaceChildren(
    ...entries.map(([name, value, fault]) => {
      const group = document.createElement("div");
      if (fault) group.className = "fault";
      const term = document.createElement("dt");
      term.textContent = name;
      const text = document.createElement("dd");
      text.textContent = value;
      group.append(term, text);
      return group;
    }),
  );
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${String(Math.floor(seconds % 60)).padStart(2, "0")}` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function onHealth(health) {
  healthAt = performance.now();
  rates.push([performance.now(), health.results_hz]);
  byId("rate").textContent = health.results_hz.toFixed(1);
  byId("rate-note").textContent = `now ${health.results_hz.toFixed(1)}`;
  const age = health.age_ms;
  byId("age-note").textContent = "p99" in age ? `p50 ${age.p50.toFixed(0)}  p99 ${age.p99.toFixed(0)}  max ${age.max.toFixed(0)}` : "";
  byId("health-state").textContent = health.state;
  byId("health-reason").hidden = !health.reason;
  byId("health-reason").textContent = health.reason;
  const counts = health.ledger;
  const faults = new Set(["dropped", "late", "failed"]);
  pairs("ledger", ["captured", "segmented", "shown", "reused", "dropped", "late", "failed", "blank"].map((name) => [name, counts[name], faults.has(name) && counts[name] > 0]));
  pairs("health", [
    ["running", duration(health.uptime_s)],
    ["patches reused", health.patches ? `${Math.round((100 * health.patches_reused) / health.patches)} %` : "–"],
    ["memory", `${Math.round(health.memory_mb)} MB`],
    ["source restarts", health.source_restarts, health.source_restarts > 0],
    ["backend restarts", health.backend_restarts, health.backend_restarts > 0],
  ]);
  notice("health", health.notices);
  if (snapshots !== null && health.snapshots > snapshots) toast(`Snapshot ${health.snapshots} saved on the cart`);
  snapshots = health.snapshots;
}

const notices = {};
function notice(group, texts) {
  notices[group] = texts;
  const all = Object.values(notices).flat();
  if (byId("notices").dataset.text === all.join("\n")) return;
  byId("notices").dataset.text = all.join("\n");
  byId("notices").hidden = !all.length;
  byId("notices").replaceChildren(
    ...all.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }),
  );
}

function onHello(hello) {
  retryMs = 500; // not on opening: a page that is refused is opened first, too
  notice("connection", []);
  deadline = hello.deadline_ms;
  lossless = hello.lossless;
  byId("about").textContent = `${hello.source} · ${hello.model}, ${hello.backend}` + (deadline ? ` · deadline ${deadline} ms` : "");
  byId("snapshot").disabled = !hello.can_snapshot;
  byId("snapshot").title = hello.can_snapshot ? "" : "Start with --output DIR to save snapshots";
  notice("warnings", hello.warnings);
}

async function onResult(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }));
  if (shown) shown.bitmap.close();
  shown = { facts, bitmap };
  receivedAt = performance.now() - facts.waited_ms;
  held = facts.held;
  byId("freeze").setAttribute("aria-pressed", String(held));
  byId("freeze").firstElementChild.textContent = held ? "Resume" : "Freeze";
  byId("age").textContent = facts.held ? "–" : facts.age_ms.toFixed(0);
  byId("frame").textContent = facts.index;
  if (!facts.held && WITH_MASK.has(facts.validity)) ages.push([receivedAt, facts.age_ms]);
  refreshState();
  requestAnimationFrame(() => {
    draw();
    fillLesions();
    send("seen");
  });
}

function send(action) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: action }));
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  let last = Promise.resolve();
  socket.onopen = () => send("seen");
  socket.onmessage = (event) => {
    if (typeof event.data !== "string") {
      last = last.then(() => onResult(event.data)).catch(() => send("seen"));
      return;
    }
    const message = JSON.parse(event.data);
    if (message.kind === "hello") onHello(message);
    else onHealth(message);
  };
  socket.onclose = (event) => {
    refreshState();
    notice("connection", event.reason ? [`The cart closed the connection: ${event.reason}`] : []);
    setTimeout(connect, retryMs);
    retryMs = Math.min(5000, retryMs * 2);
  };
}

function toast(text) {
  byId("toast").textContent = text;
  byId("toast").classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => byId("toast").classList.remove("shown"), 2500);
}

function setOpacity(value) {
  const bounded = Math.min(100, Math.max(0, value));
  byId("opacity").value = bounded;
  byId("opacity-value").textContent = bounded + " %";
  opacity = bounded / 100;
  draw();
}

const toggleFreeze = () => send(held ? "resume" : "freeze");
const snapshot = () => byId("snapshot").disabled || (send("snapshot"), toast("Snapshot…"));
function toggleOverlay() {
  overlay = !overlay;
  byId("overlay").setAttribute("aria-pressed", String(overlay));
  draw();
}
function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (document.documentElement.requestFullscreen) document.documentElement.requestFullscreen();
}

byId("freeze").onclick = toggleFreeze;
byId("snapshot").onclick = snapshot;
byId("overlay").onclick = toggleOverlay;
byId("full").onclick = fullScreen;
byId("opacity").oninput = (event) => setOpacity(Number(event.target.value));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const inControl = event.target instanceof HTMLButtonElement;
  const actions = { f: toggleFreeze, s: snapshot, o: toggleOverlay, "[": () => setOpacity(opacity * 100 - 5), "]": () => setOpacity(opacity * 100 + 5) };
  if (event.key === "Enter" && !inControl) fullScreen();
  else if (actions[event.key.toLowerCase()]) actions[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});
new ResizeObserver(draw).observe(byId("stage"));
setInterval(() => {
  refreshState();
  chart("age-chart", ages, deadline, 50);
  chart("rate-chart", rates, null, 30);
}, 250);
setOpacity(Number(byId("opacity").value));
connect();
