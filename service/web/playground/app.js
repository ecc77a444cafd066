// The page: an image, prompts and exemplar boxes in, the answer of POST /segment on a canvas.
import { curlLine, fields, formOf } from "./request.js";
import { draw } from "./view.js";

const $ = (id) => document.getElementById(id);
const NO_SIZE = { width: 640, height: 360 };
const state = { file: null, bitmap: null, size: NO_SIZE, boxes: [], answer: null, start: null };
const canvas = $("canvas");
const promptLines = () => $("prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);

function say(text) { $("status").textContent = text; }

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function redraw() {
  const shown = (name) => $(`show-${name}`).checked;
  const show = Object.fromEntries(["masks", "contours", "boxes", "labels"].map((name) => [name, shown(name)]));
  draw(canvas, state, show);
}

function request() {
  return fields({
    prompts: promptLines(),
    boxes: state.boxes,
    owner: Number($("owner").value),
    threshold: $("threshold").value,
    maskThreshold: $("mask_threshold").value,
  });
}

function refresh() {
  for (const name of ["threshold", "mask_threshold"]) $(`${name}-value`).textContent = $(name).value;
  const chosen = $("owner").value;
  const choices = [["-1", "no phrase: the boxes alone"], ...promptLines().map((line, i) => [String(i), line])];
  $("owner").replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  $("owner").value = choices.some(([value]) => value === chosen) ? chosen : "-1";
  $("curl").textContent = curlLine(state.file?.name ?? "photo.jpg", request(), new URL("segment", location.href).href);
}

async function choose(file) {
  if (!file) return;
  Object.assign(state, { file, bitmap: null, size: NO_SIZE, boxes: [], answer: null, start: null });
  $("json").textContent = "";
  $("counts").replaceChildren();
  fail("");
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (state.file !== file) return; // another one was chosen meanwhile
  if (bitmap) Object.assign(state, { bitmap, size: { width: bitmap.width, height: bitmap.height } });
  const { width, height } = state.size;
  say(`${file.name}: ${bitmap ? `${width} × ${height}` : "this browser cannot show it, the service may still read it"}`);
  listBoxes();
}

function listBoxes() {
  $("boxes").replaceChildren(...state.boxes.map(boxRow));
  refresh();
  redraw();
}

function boxRow(box, i) {
  const row = document.createElement("li");
  const edges = ["left", "top", "right", "bottom"].map((name, edge) => {
    const input = Object.assign(document.createElement("input"), { type: "number", value: box.xyxy[edge] });
    input.setAttribute("aria-label", `box ${i + 1}, ${name}`);
    input.addEventListener("change", () => { box.xyxy[edge] = Number(input.value); refresh(); redraw(); });
    return input;
  });
  const kind = document.createElement("select");
  kind.setAttribute("aria-label", `box ${i + 1}, kind`);
  kind.replaceChildren(new Option("like this", "1"), new Option("not like this", "0"));
  kind.value = String(box.label);
  kind.addEventListener("change", () => { box.label = Number(kind.value); refresh(); redraw(); });
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Remove" });
  remove.addEventListener("click", () => { state.boxes.splice(i, 1); listBoxes(); $("add").focus(); });
  row.append(...edges, kind, remove);
  return row;
}

function drawMode() { return document.querySelector("input[name=draw]:checked").value; }

function place(event) {
  const frame = canvas.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * state.size.width;
  const y = ((event.clientY - frame.top) / frame.height) * state.size.height;
  const within = (value, most) => Math.round(Math.max(0, Math.min(value, most)));
  return [within(x, state.size.width), within(y, state.size.height)];
}

function drag(event) {
  const [x, y] = place(event), [x0, y0] = state.start;
  state.boxes.at(-1).xyxy = [Math.min(x0, x), Math.min(y0, y), Math.max(x0, x), Math.max(y0, y)];
  redraw();
}

canvas.addEventListener("pointerdown", (event) => {
  if (!drawMode() || !state.file) return;
  canvas.setPointerCapture(event.pointerId);
  state.start = place(event);
  state.boxes.push({ xyxy: [...state.start, ...state.start], label: Number(drawMode()) });
});
canvas.addEventListener("pointermove", (event) => { if (state.start) drag(event); });
canvas.addEventListener("pointerup", (event) => {
  if (!state.start) return;
  drag(event);
  state.start = null;
  const [x0, y0, x1, y1] = state.boxes.at(-1).xyxy;
  if (x1 <= x0 || y1 <= y0) state.boxes.pop();
  listBoxes();
});
canvas.addEventListener("pointercancel", () => { if (state.start) { state.start = null; state.boxes.pop(); redraw(); } });

async function run(event) {
  event.preventDefault();
  if (!state.file) return fail("Choose an image first.");
  fail("");
  say("Waiting for the answer …");
  $("run").disabled = true;
  const begun = performance.now();
  const { file } = state; // what is answered of it must not be shown on another one, chosen meanwhile
  try {
    const answer = await fetch("segment", { method: "POST", body: formOf(file, request()) });
    const text = await answer.text();
    if (state.file === file) show(answer, text, Math.round(performance.now() - begun));
  } catch (error) {
    if (state.file !== file) return;
    say("");
    fail(`The service cannot be reached: is it still running? (${error.message})`);
  } finally {
    $("run").disabled = false;
  }
}

function show(answer, text, ms) {
  let document_ = {};
  try { document_ = JSON.parse(text); } catch { /* something in front of the service has answered */ }
  $("json").textContent = JSON.stringify(document_, null, 1);
  state.answer = answer.ok ? document_ : null;
  if (answer.ok) {
    state.size = { width: document_.image.width, height: document_.image.height };
    const stages = Object.entries(document_.timing_ms).map(([stage, time]) => `${stage} ${time}`).join(", ");
    say(`Answered in ${ms} ms (${stages})`);
  } else {
    say("");
    fail(inWords(answer, document_, text));
  }
  const line = ({ label, scores }) => Object.assign(document.createElement("li"), { textContent: `${label}: ${scores.length}` });
  $("counts").replaceChildren(...(state.answer?.results ?? []).map(line));
  redraw();
}

function inWords(answer, problem, text) {
  const again = answer.headers.get("Retry-After");
  const wait = again ? ` Try again in ${again} s.` : "";
  if (problem.detail) return `${problem.title}: ${problem.detail}.${wait} (${answer.status} ${problem.code})`;
  return `Something in front of the service has answered ${answer.status}.${wait} ${text.slice(0, 300)}`;
}

$("form").addEventListener("submit", run);
$("image").addEventListener("change", () => choose($("image").files[0]));
for (const name of ["prompts", "threshold", "mask_threshold"]) $(name).addEventListener("input", refresh);
$("owner").addEventListener("change", refresh);
for (const name of ["masks", "contours", "boxes", "labels"]) $(`show-${name}`).addEventListener("change", redraw);
for (const radio of document.querySelectorAll("input[name=draw]"))
  radio.addEventListener("change", () => canvas.classList.toggle("drawing", Boolean(drawMode())));
$("add").addEventListener("click", () => {
  const { width, height } = state.size;
  state.boxes.push({ xyxy: [width * 0.25, height * 0.25, width * 0.75, height * 0.75].map(Math.round), label: 1 });
  listBoxes();
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("curl").textContent);
  say("Copied.");
});
addEventListener("resize", redraw);
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  choose(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
refresh();
redraw();
