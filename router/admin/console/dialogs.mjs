// What interrupts: a confirmation, the question for the token, the story of a request.

import { clock, ms, moment, number, usd, words } from "./format.mjs";
import { Component, html } from "./html.mjs";

// A modal of the browser's own: it keeps the focus inside, ends on Escape and gives the focus back.
export class Dialog extends Component {
  componentDidMount() {
    this.element.showModal();
  }

  render({ label, onClose, children, wide }) {
    return html`<dialog ref=${(element) => (this.element = element)} class=${wide ? "wide" : ""} aria-label=${label} onClose=${onClose}>${children}</dialog>`;
  }
}

const close = (event) => event.currentTarget.closest("dialog").close();

export function Drain({ id, draining, picture, onConfirm, onClose }) {
  const found = picture.deployments.find((each) => each.stand.id === id);
  const verb = draining ? "Drain" : "Undrain";
  return html`<${Dialog} label=${`${verb} ${id}`} onClose=${onClose}>
    <h2>${verb} <span class="id">${id}</span>?</h2>
    ${draining
      ? html`<p>Nothing new will be sent to it. What runs there ends: ${number(found?.in_flight ?? 0)} now.</p>
        <ul>${consequences(id, picture).map((line) => html`<li class=${line.bad ? "bad" : ""}>${line.text}</li>`)}</ul>`
      : html`<p>It will be sent requests again, as its health and its limits allow.</p>`}
    <div class="actions">
      <button type="button" onClick=${close}>Cancel</button>
      <button type="button" class="primary" onClick=${(event) => {
        onConfirm(id, draining);
        close(event);
      }}>${verb}</button>
    </div>
  <//>`;
}

// What each workload is left with.
function consequences(id, picture) {
  const refusal = new Map(picture.deployments.map((each) => [each.stand.id, each.stand.refusal]));
  return picture.workloads.flatMap(({ placing }) => Object.entries(placing.models)
    .filter(([, ids]) => ids.includes(id))
    .map(([model, ids]) => {
      const left = ids.filter((other) => other !== id && refusal.get(other) === "").length;
      const what = left === 0
        ? "nothing else can serve it now: such requests will wait, then be refused"
        : `${left} other ${left === 1 ? "deployment" : "deployments"} can serve it now`;
      return { text: `${placing.name}, ${model}: ${what}.`, bad: left === 0 };
    }));
}

export const Token = ({ wrong, onToken }) => html`<form class="token" onSubmit=${(event) => {
  event.preventDefault();
  onToken(new FormData(event.currentTarget).get("token"));
}}>
  <h1>Inference router</h1>
  <label for="token">Token of the control plane</label>
  <input id="token" name="token" type="password" autocomplete="off" required autofocus aria-describedby="token-note" />
  <p id="token-note" class=${wrong ? "bad" : "muted"} role=${wrong ? "alert" : undefined}>${wrong
    ? "The router does not accept this token."
    : "Kept by this tab until it is closed; sent to this router alone."}</p>
  <button type="submit" class="primary">Show</button>
</form>`;

export const Story = ({ id, story, error, onClose }) => html`<${Dialog} wide label=${`Request ${id}`} onClose=${onClose}>
  <header class="pair"><h2>Request <span class="id">${story?.request ?? id}</span></h2><button type="button" onClick=${close}>Close</button></header>
  ${error ? html`<p class="bad" role="alert">${error}</p>` : story ? html`<${Told} ...${story} />` : html`<p class="muted">Looking for it…</p>`}
<//>`;

const SOURCES = { memory: "the router's memory", access_log: "the access log", decision_log: "the decision log alone" };

const Told = ({ record, decisions, source }) => html`
  ${record && html`<${Facts} record=${record} /><${Timeline} record=${record} /><${Offers} record=${record} />`}
  <${Recorded} decisions=${decisions} />
  <p class="muted small">From ${SOURCES[source]}.</p>`;

function Facts({ record }) {
  const usage = record.usage;
  const facts = [
    ["end", `${words(record.outcome)}, status ${record.status}${record.code ? `, ${record.code}` : ""}`],
    ["arrived", moment(record.at)],
    ["client's id", record.client_request_id],
    ["trace", record.trace_id],
    ["key", record.key && `${record.key} (workload ${record.workload})`],
    ["asked for", [record.model, record.operation, record.stream && "stream"].filter(Boolean).join(", ")],
    ["placement", record.plan && `${record.plan}, rule version ${record.rule_version}`],
    ["served by", record.served_by ? `${record.cloud}: ${record.served_by}` : "nobody"],
    ["left the holder", record.left_holder && "yes, after the refusals below"],
    ["first byte", record.first_byte_ms && ms(record.first_byte_ms)],
    ["first token", record.first_token_ms && ms(record.first_token_ms)],
    ["whole", ms(record.total_ms)],
    ["router's own time", record.overhead_ms && ms(record.overhead_ms)],
    ["tokens", usage && `${number(usage.prompt_tokens ?? 0)} in, ${number(usage.completion_tokens ?? 0)} out`],
    ["cost", record.cost_nano_usd && usd(record.cost_nano_usd / 1e9)],
    ["bytes", `${number(record.bytes_in ?? 0)} in, ${number(record.bytes_out ?? 0)} out`],
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

// One line for each time that the request spent somewhere, all on the scale of its whole.
function Timeline({ record }) {
  const whole = Math.max(record.total_ms, 0.001);
  const attempts = record.attempts ?? [];
  const place = (from, to) => ({ left: `${(from / whole) * 100}%`, width: `${(Math.max(to - from, 0) / whole) * 100}%` });
  const queued = record.queued_ms ?? 0;
  return html`<h3>Time</h3><ol class="timeline">
    ${queued > 0 && html`<li><span class="what">waiting room</span><span class="lane"><span class="span waiting" style=${place(0, queued)}></span></span><span class="when">${ms(queued)}</span></li>`}
    ${attempts.map((each, index) => {
      const began = each.began_ms ?? 0;
      const told = [each.status && `status ${each.status}`, each.reused ? "open connection" : "new connection", each.hedge && "hedge", each.upstream_request_id];
      return html`<li key=${index}>
        <span class="what">attempt ${index + 1}: <span class="id">${each.deployment}</span> <b class=${GOOD.has(each.outcome) ? "good" : "bad"}>${words(each.outcome)}</b>
          <span class="detail">${told.filter(Boolean).join(", ")}</span></span>
        <span class="lane">
          <span class=${`span ${GOOD.has(each.outcome) ? "fine" : "failed"}`} style=${place(began, began + (each.waited_ms ?? 0))}></span>
          ${each.first_byte_ms > 0 && html`<span class="mark" style=${place(began + each.first_byte_ms, 0)}></span>`}
        </span>
        <span class="when">at ${ms(began)} for ${ms(each.waited_ms ?? 0)}${each.first_byte_ms > 0 && html`, first byte after ${ms(each.first_byte_ms)}`}${dialled(each)}</span>
      </li>`;
    })}
    ${record.first_byte_ms > 0 && html`<li><span class="what">answer to the client</span><span class="lane"><span class="span answer" style=${place(record.first_byte_ms, record.total_ms)}></span></span><span class="when">from ${ms(record.first_byte_ms)} to ${ms(record.total_ms)}</span></li>`}
  </ol>`;
}

const GOOD = new Set(["served", "answered"]);

const dialled = ({ connect_ms, tls_ms }) =>
  [connect_ms && `, connect ${ms(connect_ms)}`, tls_ms && `, TLS ${ms(tls_ms)}`].filter(Boolean).join("");

function Offers({ record }) {
  const refusals = record.refusals ?? [];
  const rows = [...refusals, ...(record.served_by ? [[record.served_by, record.cloud, "accepted"]] : [])];
  return html`<h3>Offers</h3>${rows.length === 0 ? html`<p class="muted">It was offered to nobody.</p>` : html`<ol class="offers">
    ${rows.map(([deployment, cloud, outcome]) => html`<li>${cloud} <span class="id">${deployment || "no deployment"}</span> <b class=${outcome === "accepted" ? "good" : "bad"}>${words(outcome)}</b></li>`)}
  </ol>`}`;
}

const Recorded = ({ decisions }) => html`<h3>Decision log</h3>${decisions.length === 0
  ? html`<p class="muted">No record of it was found.</p>`
  : html`<ol class="offers">${decisions.map((each) => html`<li>
      record ${each.sequence} at ${clock(each.at)}: ${each.kind === "leave"
        ? html`left the holder for <span class="id">${each.to}</span>, written before the send`
        : html`${each.offers.length} ${each.offers.length === 1 ? "offer" : "offers"}, served by <span class="id">${each.served_by || "nobody"}</span>`}
      <span class="detail id">${each.hash}</span>
    </li>`)}</ol>`}`;
