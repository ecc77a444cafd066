// Draws the image, what was found and the exemplar boxes. Coordinates are pixels of the upright image.

// The colours of the service's own overlay.
export const PALETTE = ["#009eeb", "#f07814", "#00be82", "#e146aa", "#f5cd28", "#8c5feb", "#5ad2f0", "#e63c3c"];
// In CSS pixels, so that they are as large on a phone's screen as on a desk.
const LABEL_PX = 13, LINE_PX = 2, SMALL_PX = 320;

export function draw(canvas, state, show) {
  const { scale, sharp } = fit(canvas, state.size);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#777";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (state.bitmap) pen.drawImage(state.bitmap, 0, 0, canvas.width, canvas.height);
  const look = { pen, scale, line: LINE_PX * sharp, letters: LABEL_PX * sharp, show };
  const found = (state.answer?.results ?? []).flatMap((result, i) =>
    result.scores.map((score, n) => ({ result, n, score, colour: PALETTE[i % PALETTE.length] })).reverse());
  for (const one of found) drawShape(look, one);
  for (const one of found) drawBox(look, one);
  for (const box of state.boxes) drawExemplar(look, box);
  if (show.labels) for (const one of found) drawLabel(look, one);
}

// As large as there is room for, at most its own size, but a small one enlarged; one canvas pixel a pixel of the screen.
function fit(canvas, { width, height }) {
  const sharp = window.devicePixelRatio || 1;
  const room = Math.min(canvas.parentElement.clientWidth / width, (window.innerHeight * 0.9) / height);
  const shown = Math.min(room, Math.max(1, SMALL_PX / Math.max(width, height)));
  canvas.width = Math.max(1, Math.round(width * shown * sharp));
  canvas.height = Math.max(1, Math.round(height * shown * sharp));
  canvas.style.width = `${canvas.width / sharp}px`;
  return { scale: canvas.width / width, sharp };
}

function drawShape({ pen, scale, line, show }, { result, n, colour }) {
  const path = new Path2D();
  for (const ring of [...(result.contours?.[n] ?? []), ...(result.holes?.[n] ?? [])]) {
    // A pixel's coordinates are its corner here; a ring runs through pixel centers.
    ring.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"]((x + 0.5) * scale, (y + 0.5) * scale));
    path.closePath();
  }
  pen.fillStyle = `${colour}73`;
  if (show.masks) pen.fill(path, "evenodd");
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  if (show.contours) pen.stroke(path);
}

function drawBox({ pen, scale, line, show }, { result, n, colour }) {
  const [x0, y0, x1, y1] = result.boxes[n].map((edge) => edge * scale);
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  if (show.boxes) pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

// Above the box, else below it, else in it.
function drawLabel({ pen, scale, letters }, { result, n, score, colour }) {
  const [x0, y0, , y1] = result.boxes[n].map((edge) => edge * scale);
  const text = `${result.label} ${score.toFixed(2)}`;
  pen.font = `600 ${letters}px system-ui, sans-serif`;
  const { width: most, height: bottom } = pen.canvas;
  const high = letters * 1.4, wide = Math.min(most, pen.measureText(text).width + letters * 0.6);
  const x = Math.max(0, Math.min(x0, most - wide));
  const y = y0 >= high ? y0 - high : y1 + high <= bottom ? y1 : y0;
  pen.fillStyle = colour;
  pen.fillRect(x, y, wide, high);
  pen.fillStyle = "#000";
  pen.fillText(text, x + letters * 0.3, y + letters * 1.05, Math.max(1, wide - letters * 0.6));
}

function drawExemplar({ pen, scale, line }, { xyxy, label }) {
  const [x0, y0, x1, y1] = xyxy.map((edge) => edge * scale);
  pen.setLineDash([line * 4, line * 3]);
  pen.strokeStyle = label ? "#0f0" : "#f00";
  pen.lineWidth = line * 1.5;
  pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  pen.setLineDash([]);
}
