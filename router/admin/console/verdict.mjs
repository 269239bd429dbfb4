// How a deployment is judged: a shape, a colour and a word, so that no one of them is the only signal.

import { seconds, words } from "./format.mjs";
import { html } from "./html.mjs";

const SHAPES = {
  up: html`<circle cx="6" cy="6" r="4.5" fill="currentColor" />`,
  degraded: html`<circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="1.6" /><path d="M6 2a4 4 0 0 1 0 8z" fill="currentColor" />`,
  throttled: html`<path d="M2.5 1.5h2.6v9H2.5zM6.9 1.5h2.6v9H6.9z" fill="currentColor" />`,
  probing: html`<circle cx="6" cy="6" r="4.4" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="2.6 2" /><circle cx="6" cy="6" r="1.6" fill="currentColor" />`,
  ejected: html`<path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" stroke-width="2.2" fill="none" />`,
  draining: html`<path d="M6 1v7M2.5 5.5L6 9l3.5-3.5M2 11h8" stroke="currentColor" stroke-width="1.8" fill="none" />`,
  unknown: html`<circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="1.6" />`,
};

export const Shape = ({ state, size = 12, ...more }) =>
  html`<svg class="shape" width=${size} height=${size} viewBox="0 0 12 12" aria-hidden="true" ...${more}>${SHAPES[state] ?? SHAPES.unknown}</svg>`;

export function because({ state, reason, for_s }) {
  const why = reason && reason !== state ? words(reason) : "";
  const left = for_s === null ? "" : `${seconds(for_s)} left`;
  return [why, left].filter(Boolean).join(", ");
}

export const Verdict = ({ standing, states }) => {
  const others = Object.entries(states).filter(([state]) => state !== standing.state);
  const all = Object.values(states).reduce((a, b) => a + b, 0);
  const detail = because(standing);
  return html`<span class=${`verdict ${standing.state}`}>
    <${Shape} state=${standing.state} /> <b>${standing.state}</b>
    ${others.length > 0 && html` <span class="muted">in ${states[standing.state]} of ${all} workers</span>`}
    ${detail && html`<span class="detail">${detail}</span>`}
  </span>`;
};
