// Asking the node that served this page. Every question has an end: an answer, a problem, or the timeout.

const TIMEOUT_MS = 8000;

/** What the node refused or could not do: `status` (0: no answer) and the words of its problem document. */
export class Problem extends Error {
  constructor(status, detail, document = {}) {
    super(detail);
    this.status = status;
    this.document = document;
  }
}

/** The response to one request; raises `Problem` unless its status is 2xx or one of `also`. */
export async function ask(path, { method = "GET", headers = {}, body, also = [], timeoutMs = TIMEOUT_MS } = {}) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), timeoutMs);
  try {
    const response = await fetch(path, { method, headers, body, signal: controller.signal, cache: "no-store", redirect: "error" });
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (!response.ok && !also.includes(response.status)) throw problemOf(response, bytes);
    return { status: response.status, headers: response.headers, bytes };
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(0, error.name === "AbortError" ? "no answer in time" : "no answer from this node");
  } finally {
    clearTimeout(timer);
  }
}

function problemOf(response, bytes) {
  try {
    const document = JSON.parse(new TextDecoder().decode(bytes));
    return new Problem(response.status, document.detail || document.title, document);
  } catch {
    return new Problem(response.status, `the node answered ${response.status}`);
  }
}

const json = (answer) => JSON.parse(new TextDecoder().decode(answer.bytes));

export const get = async (path) => json(await ask(path));

export async function send(method, path, document) {
  const headers = { "Content-Type": "application/json" };
  return json(await ask(path, { method, headers, body: JSON.stringify(document) }));
}

/** A name as a segment of a path. Raises `Problem` for those that no browser sends as they are. */
export function segment(name) {
  if (name === "." || name === "..") throw new Problem(400, `browsers cannot ask for a key called "${name}"; use the command line`);
  return encodeURIComponent(name);
}

const keyPath = (bucket, key) => `/v1/buckets/${segment(bucket)}/keys/${segment(key)}`;

export const where = (bucket, key) => get(`/v1/where/${segment(bucket)}/${segment(key)}`);

/** All values of a key: `{context, siblings: [{type, modified, bytes}]}`; a deleted or unknown one has no siblings. */
export async function read(bucket, key) {
  const answer = await ask(keyPath(bucket, key), { headers: { Accept: "application/json" }, also: [300, 404] });
  const context = answer.headers.get("Quorate-Context") || "";
  if (answer.status === 404) return { context, siblings: [] };
  const type = answer.headers.get("Content-Type") || "";
  if (answer.status !== 300) return { context, siblings: [{ type, modified: answer.headers.get("Last-Modified"), bytes: answer.bytes }] };
  const siblings = json(answer).siblings.map((sibling) => ({
    type: sibling.content_type,
    modified: sibling.last_modified,
    bytes: sibling.value === undefined ? fromBase64(sibling.value_base64) : new TextEncoder().encode(sibling.value),
  }));
  return { context, siblings };
}

export async function write(bucket, key, bytes, type, context) {
  const headers = {};
  if (type) headers["Content-Type"] = type;
  if (context) headers["Quorate-Context"] = context;
  await ask(keyPath(bucket, key), { method: "PUT", headers, body: bytes });
}

export async function remove(bucket, key, context) {
  await ask(keyPath(bucket, key), { method: "DELETE", headers: context ? { "Quorate-Context": context } : {} });
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The text of a value; null if it is none. */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
