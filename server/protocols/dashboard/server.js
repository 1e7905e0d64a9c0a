// The server: every request of the page, with the API key and the admin token, which stay in memory.

const secrets = { key: "", token: "" };

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const useKey = key => { secrets.key = key; };
export const useToken = token => { secrets.token = token; };
export const hasToken = () => secrets.token !== "";

// A response of this server, whatever its status. Raises TypeError when there is none.
export function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (secrets.key) headers["X-API-Key"] = secrets.key;
  if (secrets.token && path.startsWith("admin/")) headers.Authorization = `Bearer ${secrets.token}`;
  return fetch(path, { cache: "no-store", credentials: "same-origin", ...options, headers });
}

// The document of a response. Raises Refused with what the server says for any status but 2xx.
export async function read(path, options) {
  const response = await ask(path, options);
  const text = await response.text();
  if (!response.ok) throw new Refused(response.status, told(text) || `status ${response.status}`);
  return JSON.parse(text);
}

// What an error response says.
export function told(text) {
  try {
    return String(JSON.parse(text).error ?? "");
  } catch {
    return text.slice(0, 300);
  }
}

export const pathOf = (name, version) =>
  `v2/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`;
