// The sections below the picture: deployments, workloads, refusals, requests, processes.

import { clock, ms, number, rate, share, sum, usd, words } from "./format.mjs";
import { html } from "./html.mjs";
import { Verdict } from "./verdict.mjs";

// A table that is one of cards on a narrow screen. Its roles are written out: `display` would take them away there.
const Table = ({ label, columns, children, short }) => html`<table role="table" aria-label=${label} class=${short ? "short" : ""}>
  <thead role="rowgroup"><tr role="row">${columns.map(([name, kind]) => html`<th role="columnheader" scope="col" class=${kind}>${name}</th>`)}</tr></thead>
  <tbody role="rowgroup">${children}</tbody>
</table>`;

const Row = ({ columns, cells, ...more }) => html`<tr role="row" ...${more}>
  ${cells.map((cell, index) => html`<td role="cell" class=${columns[index][1]} data-name=${columns[index][0]}>${cell}</td>`)}
</tr>`;

const Meter = ({ name, value, low }) => html`<span class=${name ? "meter" : "meter bare"}>
  ${name && html`<span class="muted">${name}</span>`}
  <span class=${`track ${low ? "low" : ""}`}><span style=${{ width: `${Math.min(1, value) * 100}%` }}></span></span>
  <span>${share(value)}</span>
</span>`;

const spread = ({ p50_ms, p99_ms }) => html`${ms(p50_ms)} <span class="muted">/</span> ${ms(p99_ms)}`;

const LOW = 0.1;

const DEPLOYMENTS = [
  ["deployment", ""],
  ["verdict", ""],
  ["attempts/s", "right"],
  ["first byte p50 / p99", "right"],
  ["in flight", "right"],
  ["quota left", ""],
  ["", "right"],
];

export const Deployments = ({ deployments, onDrain }) => html`<${Table} label="Deployments" columns=${DEPLOYMENTS}>
  ${deployments.map((each) => html`<${Row} key=${each.stand.id} columns=${DEPLOYMENTS} cells=${[
    html`<span class="id">${each.stand.id}</span> <span class="detail">${each.stand.cloud}${each.stand.region && `, ${each.stand.region}`}: ${each.stand.model}</span>`,
    html`<${Verdict} standing=${each.stand.standing} states=${each.states} />`,
    html`${rate(sum(each.outcomes))}${failures(each.outcomes)}`,
    spread(each.first_byte),
    html`${each.in_flight} <span class="muted">of ${each.in_flight_max}</span>`,
    html`${Object.entries(each.quota_left).map(([limit, left]) => html`<${Meter} name=${limit} value=${left} low=${left < LOW} />`)}`,
    html`<button type="button" data-deployment=${each.stand.id} aria-label=${`${each.stand.draining ? "Undrain" : "Drain"} ${each.stand.id}`}
      onClick=${() => onDrain(each.stand.id, !each.stand.draining)}>${each.stand.draining ? "Undrain" : "Drain"}</button>`,
  ]} />`)}
<//>`;

// Ends of an attempt that say nothing bad of its deployment.
const FINE = new Set(["served", "answered", "client_gone", "hedge_lost", "withdrawn"]);

function failures(outcomes) {
  const failed = Object.entries(outcomes).filter(([outcome]) => !FINE.has(outcome));
  return failed.map(([outcome, each]) => html`<span class="detail bad">${rate(each)} ${words(outcome)}</span>`);
}

const WORKLOADS = [
  ["workload", ""],
  ["requests/s", "right"],
  ["first byte p50 / p99", "right"],
  ["in flight", "right"],
  ["tokens/s in, out", "right"],
  ["cost/h", "right"],
  ["retries left", "right"],
];

export const Workloads = ({ workloads }) => html`<${Table} label="Workloads" columns=${WORKLOADS}>
  ${workloads.map((each) => html`<${Row} key=${each.placing.name} columns=${WORKLOADS} cells=${[
    html`<b>${each.placing.name}</b> <span class="detail">${each.placing.rule}, rule version <span class="id">${each.placing.rule_version}</span></span>`,
    html`${rate(sum(each.outcomes))}${Object.entries(each.outcomes).filter(([outcome]) => outcome !== "ok").map(([outcome, value]) =>
      html`<span class=${`detail ${outcome.startsWith("client") ? "" : "bad"}`}>${rate(value)} ${words(outcome)}</span>`)}`,
    spread(each.first_byte),
    number(each.in_flight),
    html`${rate(each.prompt_tokens)}, ${rate(each.completion_tokens)}`,
    usd(each.usd_per_h),
    number(Math.floor(each.retries_left)),
  ]} />`)}
<//>`;

const REFUSALS = [
  ["workload", ""],
  ["cloud", ""],
  ["reason", ""],
  ["refusals/s", "right"],
  ["since the start", "right"],
];

export const Refusals = ({ refusals }) => refusals.length === 0
  ? html`<p class="muted">No offer has been refused.</p>`
  : html`<${Table} short label="Refusals by reason" columns=${REFUSALS}>
    ${refusals.map((each) => html`<${Row} key=${`${each.workload} ${each.cloud} ${each.reason}`} columns=${REFUSALS} cells=${[
      each.workload, each.cloud, words(each.reason), rate(each.rate), number(each.total),
    ]} />`)}
  <//>`;

const LIMITS = [
  ["limit", ""],
  ["left", ""],
  ["refused/s", "right"],
  ["since the start", "right"],
  ["would be refused", "right"],
];

export const Limits = ({ limits }) => html`<${Table} label="Limits" columns=${LIMITS}>
  ${limits.map((each) => html`<${Row} key=${`${each.scope} ${each.name} ${each.limit}`} columns=${LIMITS} cells=${[
    html`<b>${each.name}</b> <span class="detail">${each.scope}, ${words(each.limit)}</span>`,
    html`${each.left !== null && html`<${Meter} value=${each.left} low=${each.left < LOW} />`}`,
    rate(each.refused), number(each.total), number(each.shadowed),
  ]} />`)}
<//>`;

const WORKERS = [
  ["worker", ""],
  ["state", ""],
  ["event loop late by", "right"],
  ["restarts", "right"],
];

export const Workers = ({ workers }) => html`<${Table} short label="Workers" columns=${WORKERS}>
  ${workers.map((each) => html`<${Row} key=${each.worker} columns=${WORKERS} cells=${[
    each.worker,
    html`<span class=${each.up ? "" : "bad"}>${each.up ? "up" : "down"}</span>`,
    ms(each.loop_lag_ms),
    number(each.restarts),
  ]} />`)}
<//>`;

const REQUESTS = [
  ["ended", ""],
  ["request", ""],
  ["asked by", ""],
  ["went to", ""],
  ["why", ""],
  ["first byte", "right"],
  ["whole", "right"],
];

export const Requests = ({ briefs, onOpen }) => briefs.length === 0
  ? html`<p class="muted">None in memory.</p>`
  : html`<${Table} label="Recent decisions" columns=${REQUESTS}>
    ${briefs.map((each) => html`<${Row} key=${each.id} columns=${REQUESTS} cells=${[
      html`<time>${clock(each.at)}</time>`,
      html`<button type="button" class="link id" onClick=${() => onOpen(each.id)}>${each.id}</button>`,
      html`${each.workload || "no valid key"} <span class="detail">${[each.key, each.operation, each.model].filter(Boolean).join(", ")}</span>`,
      html`${each.served_by ? html`<span class="id">${each.served_by}</span>` : "nowhere"} ${each.outcome !== "ok"
        && html`<span class=${`detail ${each.outcome.startsWith("client") ? "" : "bad"}`}>${each.status} ${words(each.code || each.outcome)}</span>`}`,
      why(each),
      ms(each.first_byte_ms || null),
      ms(each.total_ms),
    ]} />`)}
  <//>`;

function why({ refusals, left_holder, attempts, served_by }) {
  const reasons = new Map();
  for (const [deployment, cloud, reason] of refusals) {
    const key = `${cloud}\n${reason}`;
    reasons.set(key, [...(reasons.get(key) ?? []), deployment]);
  }
  const told = [...reasons].map(([key, deployments]) => {
    const [cloud, reason] = key.split("\n");
    const times = deployments.length > 1 ? ` × ${deployments.length}` : "";
    return html`<span class="refused" title=${deployments.join(", ")}>${cloud} ${words(reason)}${times}</span>`;
  });
  if (told.length === 0) return html`<span class="muted">${served_by ? (attempts > 1 ? `attempt ${attempts}` : "first choice") : ""}</span>`;
  return html`${told}${left_holder && html`<span class="detail">left the holder</span>`}`;
}
