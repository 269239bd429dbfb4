// What the page asks of the control plane. A token, where one is needed, is kept for as long as this tab is open.

const KEY = "inference-router-token";
const WITHIN_MS = 5000;

export class Unauthorized extends Error {}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;

export function setToken(token) {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  // The paths are relative to the page's own, so that a prefix of a proxy before it stays.
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) });
  if (answer.status === 401) throw new Unauthorized();
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error.message), { status: answer.status });
  return body;
}

export const live = () => ask("live");

export const story = (id) => ask(`requests/${encodeURIComponent(id)}`);

export const drain = (id, draining) =>
  ask(`deployments/${encodeURIComponent(id)}/${draining ? "drain" : "undrain"}`, { method: "POST" });
