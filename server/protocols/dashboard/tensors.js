// The tensors of a request: fields for a model's inputs, and the body that is made of what they hold.

import { make } from "./elements.js";

const SHOWN_VALUES = 2_000;
const BYTES = "BYTES";

const sizeOf = shape => shape.reduce((all, axis) => all * Math.max(axis, 1), 1);

// Values in the order of memory, as nested lists of a shape.
export function nested(values, shape) {
  if (shape.length < 2) return values;
  const step = values.length / Math.max(shape[0], 1);
  return Array.from({ length: shape[0] }, (_, index) => nested(values.slice(index * step, (index + 1) * step), shape.slice(1)));
}

function shapeOf(value) {
  return Array.isArray(value) ? [value.length, ...(value.length ? shapeOf(value[0]) : [])] : [];
}

// A field for one input. `spec`: of the model's metadata; `example`: its values, or undefined.
// `tensor()` gives {tensor, blob}: the tensor for JSON, or the bytes that follow it.
export function field(spec, example) {
  const concrete = example?.shape ?? spec.shape.map(axis => Math.max(axis, 1));
  const values = example?.data ?? (example?.b64 ? [] : new Array(sizeOf(concrete)).fill(spec.datatype === BYTES ? "" : 0));
  const oneText = spec.datatype === BYTES && sizeOf(concrete) === 1;
  const large = sizeOf(concrete) > SHOWN_VALUES;
  const text = make("textarea", { spellcheck: false, rows: oneText ? 3 : 4, value: large || example?.b64 ? "" : oneText ? String(values[0]) : written(values, concrete) });
  if (large || example?.b64) text.placeholder = `${sizeOf(concrete).toLocaleString("en")} values of the example are sent while this is empty`;
  const file = make("input", { type: "file" });
  const picture = spec.datatype === BYTES ? null : layout(concrete);
  if (picture) file.accept = "image/*";
  const size = `[${spec.shape.map(axis => (axis < 0 ? "any" : axis)).join(", ")}]`;
  const node = make(
    "div",
    { className: "stack wide" },
    make("label", {}, make("b", {}, spec.name), make("span", { className: "soft" }, `${spec.datatype} ${size}`), text),
    (oneText || picture) ? make("label", {}, picture ? "or an image, scaled to this size (values 0 to 1)" : "or a file, such as an image", file) : "",
  );
  const tensor = async () => {
    if (oneText && file.files.length) return framed(spec, concrete, new Uint8Array(await file.files[0].arrayBuffer()));
    if (picture && file.files.length) return { tensor: { ...plain(spec, concrete), data: await pixels(file.files[0], picture, spec.datatype) } };
    if (oneText && example?.b64 && !text.value) return framed(spec, concrete, Uint8Array.from(atob(example.b64[0]), one => one.charCodeAt(0)));
    if (oneText) return { tensor: { ...plain(spec, concrete), data: [text.value] } };
    if (!text.value.trim()) return { tensor: { ...plain(spec, concrete), data: values } };
    const given = JSON.parse(text.value);
    return { tensor: { ...plain(spec, shapeOf(given)), data: [given].flat(Infinity) } };
  };
  return { node, tensor };
}

const plain = (spec, shape) => ({ name: spec.name, datatype: spec.datatype, shape });

// One row a line, so that rows can be told apart.
function written(values, shape) {
  const rows = nested(values, shape);
  return shape.length > 1 ? `[${rows.map(row => JSON.stringify(row)).join(",\n ")}]` : JSON.stringify(rows);
}

// One value of bytes, as the binary tensor extension has it: its length, then the bytes.
function framed(spec, shape, value) {
  const blob = new Uint8Array(4 + value.length);
  new DataView(blob.buffer).setUint32(0, value.length, true);
  blob.set(value, 4);
  return { tensor: { ...plain(spec, shape), parameters: { binary_data_size: blob.length } }, blob };
}

// Where an input of one picture has its rows, columns and channels; null for another shape.
function layout(shape) {
  if (shape.length !== 4 || shape[0] !== 1) return null;
  if (shape[1] === 1 || shape[1] === 3) return { channels: shape[1], height: shape[2], width: shape[3], first: true };
  if (shape[3] === 1 || shape[3] === 3) return { channels: shape[3], height: shape[1], width: shape[2], first: false };
  return null;
}

async function pixels(file, { channels, height, width, first }, datatype) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(await createImageBitmap(file), 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const places = width * height;
  const out = new Array(places * channels);
  const unit = datatype.startsWith("FP") || datatype === "BF16" ? 255 : 1;
  for (let place = 0; place < places; place++)
    for (let channel = 0; channel < channels; channel++) {
      const grey = (data[4 * place] + data[4 * place + 1] + data[4 * place + 2]) / 3;
      const value = channels === 1 ? grey : data[4 * place + channel];
      out[first ? channel * places + place : place * channels + channel] = unit === 255 ? value / 255 : Math.round(value);
    }
  return out;
}

// The body of a request, and its headers: JSON, and the bytes of tensors behind it if there are any.
export function bodyOf(parts) {
  const text = new TextEncoder().encode(JSON.stringify({ inputs: parts.map(one => one.tensor) }));
  const blobs = parts.filter(one => one.blob).map(one => one.blob);
  if (!blobs.length) return { body: text, headers: { "content-type": "application/json" } };
  const headers = { "content-type": "application/octet-stream", "Inference-Header-Content-Length": String(text.length) };
  return { body: new Blob([text, ...blobs]), headers };
}
