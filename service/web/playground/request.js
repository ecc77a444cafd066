// What is sent, as fields of a form and as a curl command: both are made of the same list.

export function fields({ prompts, boxes, owner, threshold, maskThreshold }) {
  const exemplars = { boxes: boxes.map((box) => box.xyxy), box_labels: boxes.map((box) => box.label) };
  const asText = (text, i) => {
    if (boxes.length && i === owner) return JSON.stringify({ text, ...exemplars });
    return text.startsWith("{") ? JSON.stringify({ text }) : text;
  };
  const values = prompts.map(asText);
  if (boxes.length && owner < 0) values.push(JSON.stringify(exemplars));
  return [
    ...values.map((value) => ["prompts", value]),
    ["threshold", String(threshold)],
    ["mask_threshold", String(maskThreshold)],
    ["return_contours", "true"],
    ["contour_holes", "true"],
  ];
}

export function formOf(file, list) {
  const form = new FormData();
  form.append("image", file, file.name);
  for (const [name, value] of list) form.append(name, value);
  return form;
}

const quoted = (text) => (/^[\w=.@:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export function curlLine(fileName, list, url) {
  const plain = /^[\w.-]+$/.test(fileName);
  const path = plain ? fileName : `"${fileName.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  // -F reads @, < and ; in a value as its own; --form-string takes it as it is.
  const flag = (value) => (/^[\w. -]+$/.test(value) ? "-F" : "--form-string");
  const texts = list.map(([name, value]) => `${flag(value)} ${quoted(`${name}=${value}`)}`);
  return ["curl", "-F", quoted(`image=@${path}`), ...texts, quoted(url)].join(" ");
}
