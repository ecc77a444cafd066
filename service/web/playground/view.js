// Draws the image, what was found and the exemplar boxes. Coordinates are pixels of the upright image.

// The colours of the service's own overlay.
export const PALETTE = ["#009eeb", "#f07814", "#00be82", "#e146aa", "#f5cd28", "#8c5feb", "#5ad2f0", "#e63c3c"];
const MOST_PX = 2000;

export function draw(canvas, state, show) {
  const { width, height } = state.size;
  const scale = Math.min(1, MOST_PX / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#777";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (state.bitmap) pen.drawImage(state.bitmap, 0, 0, canvas.width, canvas.height);
  const look = { pen, scale, line: Math.max(1.5, Math.max(canvas.width, canvas.height) / 450), show };
  const found = (state.answer?.results ?? []).flatMap((result, i) =>
    result.scores.map((score, n) => ({ result, n, score, colour: PALETTE[i % PALETTE.length] })).reverse());
  for (const one of found) drawShape(look, one);
  for (const one of found) drawBox(look, one);
  for (const box of state.boxes) drawExemplar(look, box);
}

function drawShape({ pen, scale, line, show }, { result, n, colour }) {
  const path = new Path2D();
  for (const ring of result.contours?.[n] ?? []) {
    // A pixel's coordinates are its corner here; a ring runs through pixel centers.
    ring.forEach(([x, y], i) => path[i ? "lineTo" : "moveTo"]((x + 0.5) * scale, (y + 0.5) * scale));
    path.closePath();
  }
  pen.fillStyle = `${colour}73`;
  if (show.masks) pen.fill(path);
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  if (show.contours) pen.stroke(path);
}

function drawBox({ pen, scale, line, show }, { result, n, score, colour }) {
  const [x0, y0, x1, y1] = result.boxes[n].map((edge) => edge * scale);
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  if (show.boxes) pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  if (!show.labels) return;
  const size = Math.max(11, line * 7);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const text = `${result.label} ${score.toFixed(2)}`;
  const width = pen.measureText(text).width + size * 0.6;
  const x = Math.max(0, Math.min(x0, pen.canvas.width - width));
  const y = y0 >= size * 1.4 ? y0 - size * 1.4 : y0;
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, size * 1.4);
  pen.fillStyle = "#000";
  pen.fillText(text, x + size * 0.3, y + size * 1.05);
}

function drawExemplar({ pen, scale, line }, { xyxy, label }) {
  const [x0, y0, x1, y1] = xyxy.map((edge) => edge * scale);
  pen.setLineDash([line * 4, line * 3]);
  pen.strokeStyle = label ? "#0f0" : "#f00";
  pen.lineWidth = line * 1.5;
  pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  pen.setLineDash([]);
}
