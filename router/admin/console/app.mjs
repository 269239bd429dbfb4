// The page: it asks for the picture each second while somebody looks at it, and draws what it is told.

import * as api from "./api.mjs";
import { Drain, Story, Token } from "./dialogs.mjs";
import { Flow } from "./flow.mjs";
import { bytes, clock, ms, number, rate, sum, usd } from "./format.mjs";
import { Component, html, render } from "./html.mjs";
import { Deployments, Limits, Refusals, Requests, Workers, Workloads } from "./tables.mjs";

const EVERY_MS = 1000;
const AGAIN_MS = 3000;
const HISTORY = 120;
const THEMES = { auto: "light dark", light: "light", dark: "dark" };

class App extends Component {
  state = { picture: null, lost: "", token: null, story: null, drain: null, notable: false, held: null, said: "", theme: "auto", width: 0 };
  history = [];
  timer = 0;

  componentDidMount() {
    this.setTheme(localStorage.getItem("inference-router-theme") ?? "auto");
    document.addEventListener("visibilitychange", () => !document.hidden && this.look());
    addEventListener("hashchange", () => this.openHash());
    new ResizeObserver(([entry]) => this.setState({ width: Math.floor(entry.contentRect.width) })).observe(document.getElementById("root"));
    this.look();
    this.openHash();
  }

  // One look at a time, and none while the page is hidden.
  async look() {
    clearTimeout(this.timer);
    if (document.hidden || this.looking) return;
    this.looking = true;
    try {
      this.take(await api.live());
    } catch (error) {
      this.fail(error);
    } finally {
      this.looking = false;
    }
    if (this.state.token === null) this.timer = setTimeout(() => this.look(), this.state.lost ? AGAIN_MS : EVERY_MS);
  }

  take(picture) {
    if (picture.over_s !== null) this.history = [...this.history, sum(picture.workloads.map((each) => sum(each.outcomes)))].slice(-HISTORY);
    const said = this.changes(picture);
    this.setState({ picture, lost: "", token: null, ...(said && { said }) });
  }

  fail(error) {
    if (error instanceof api.Unauthorized) {
      const wrong = api.hasToken();
      api.setToken(null);
      this.state.token = { wrong };
      this.setState({ token: { wrong } });
    } else {
      const since = this.state.picture ? ` Shown is what was known at ${clock(this.state.picture.at)}.` : "";
      this.state.lost ||= `The router does not answer.${since}`;
      this.setState({ lost: this.state.lost });
    }
  }

  // Spoken for who cannot see it: only what changed of a verdict.
  changes(picture) {
    const before = new Map(this.state.picture?.deployments.map((each) => [each.stand.id, each.stand.standing.state]));
    return picture.deployments
      .filter(({ stand }) => before.has(stand.id) && before.get(stand.id) !== stand.standing.state)
      .map(({ stand }) => `${stand.id} is now ${stand.standing.state}.`)
      .join(" ");
  }

  setToken(token) {
    api.setToken(token);
    this.state.token = null;
    this.look();
  }

  setTheme(theme) {
    document.documentElement.style.colorScheme = THEMES[theme] ?? THEMES.auto;
    localStorage.setItem("inference-router-theme", theme);
    this.setState({ theme });
  }

  openHash() {
    const id = new URLSearchParams(location.hash.slice(1)).get("request");
    if (id !== null && id !== this.state.story?.id) this.open(id);
  }

  async open(id) {
    history.replaceState(null, "", `#${new URLSearchParams({ request: id })}`);
    this.setState({ story: { id } });
    let told;
    try {
      told = { story: await api.story(id) };
    } catch (error) {
      told = { error: error.status === 404 ? error.message : "The router does not answer." };
    }
    if (this.state.story?.id === id) this.setState({ story: { id, ...told } });
  }

  closeStory() {
    history.replaceState(null, "", location.pathname);
    this.setState({ story: null });
  }

  async drain(id, draining) {
    try {
      await api.drain(id, draining);
      this.setState({ said: `${id} is ${draining ? "draining" : "no longer draining"}.` });
      this.look();
    } catch (error) {
      this.setState({ said: `${id} could not be ${draining ? "drained" : "undrained"}: ${error.message || "no answer"}` });
    }
  }

  render(_, { picture, lost, token, story, drain, said, theme, width }) {
    if (token !== null) return html`<main class="gate"><${Token} wrong=${token.wrong} onToken=${(text) => this.setToken(text)} /></main>`;
    return html`
      <${Header} picture=${picture} lost=${lost} theme=${theme} onTheme=${(name) => this.setTheme(name)} onFind=${(id) => this.open(id)} />
      <p class="unseen" role="status">${said}</p>
      ${picture === null ? html`<main><p class="muted">${lost || "Asking the router…"}</p></main>` : this.main(picture, width)}
      ${story !== null && html`<${Story} key=${story.id} ...${story} onClose=${() => this.closeStory()} />`}
      ${drain !== null && html`<${Drain} ...${drain} picture=${picture} onConfirm=${(...args) => this.drain(...args)} onClose=${() => this.setState({ drain: null })} />`}`;
  }

  main(picture, width) {
    const { notable, held } = this.state;
    const briefs = held ?? (notable ? picture.notable : picture.recent);
    return html`<main>
      <${Proof} picture=${picture} />
      <${Figures} picture=${picture} history=${this.history} />
      <${Section} title="Flow" note="requests a second; a wider line is more"><${Flow} picture=${picture} width=${width - MARGIN(width)} /><//>
      <${Section} title="Deployments"><${Deployments} deployments=${picture.deployments} onDrain=${(id, draining) => this.setState({ drain: { id, draining } })} /><//>
      <div class="columns">
        <${Section} title="Workloads"><${Workloads} workloads=${picture.workloads} /><//>
        <${Section} title="Refusals"><${Refusals} refusals=${picture.refusals} /><//>
      </div>
      ${picture.limits.length > 0 && html`<${Section} title="Limits" note="near their end, or that turned somebody away"><${Limits} limits=${picture.limits} /><//>`}
      <${Section} title="Recent decisions" tools=${html`
        <label class="check"><input type="checkbox" checked=${notable} onChange=${(event) => this.setState({ notable: event.currentTarget.checked, held: null })} /> refused or failed only</label>
        <label class="check"><input type="checkbox" checked=${held !== null} onChange=${(event) => this.setState({ held: event.currentTarget.checked ? briefs : null })} /> hold</label>`}>
        <${Requests} briefs=${briefs} onOpen=${(id) => this.open(id)} /><//>
      <${Section} title="Workers"><${Workers} workers=${picture.workers} /><//>
    </main>`;
  }
}

const MARGIN = (width) => (width < 700 ? 24 : 48);

const Section = ({ title, note, tools, children }) => html`<section aria-label=${title}>
  <div class="title"><h2>${title}</h2>${note && html`<span class="muted small">${note}</span>`}${tools}</div>
  ${children}
</section>`;

const Header = ({ picture, lost, theme, onTheme, onFind }) => html`<header class="top">
  <h1>Inference router</h1>
  ${picture && html`<span class="muted">configuration <span class="id">${picture.config_version}</span></span>`}
  <span class=${`status ${lost ? "bad" : ""}`} role="status">${lost || (picture ? (picture.draining ? "draining" : "live") : "")}</span>
  <form role="search" onSubmit=${(event) => {
    event.preventDefault();
    const id = new FormData(event.currentTarget).get("id").trim();
    if (id) onFind(id);
  }}>
    <label for="find">Request id</label>
    <input id="find" name="id" type="search" autocomplete="off" spellcheck="false" placeholder="x-request-id, or the client's" />
    <button type="submit">Find</button>
  </form>
  <label class="theme">Theme <select value=${theme} onChange=${(event) => onTheme(event.currentTarget.value)}>
    ${Object.keys(THEMES).map((name) => html`<option value=${name}>${name}</option>`)}
  </select></label>
</header>`;

function Proof({ picture }) {
  const { proof, workers } = picture;
  const down = workers.filter((each) => !each.up).length;
  const facts = [
    ["placement violations", number(proof.placement_violations), proof.placement_violations === 0],
    ["decision log", proof.decision_log ? `${number(proof.records)} records${proof.signed ? "" : ", unsigned"}` : "off", proof.decision_log && (proof.signed || null)],
    ["records dropped", number(proof.dropped), proof.dropped === 0],
    ["anchors failed", number(proof.anchor_failures), proof.anchor_failures === 0],
    ["log lines dropped", number(proof.access_log_dropped), proof.access_log_dropped === 0],
    ["workers", down === 0 ? `${workers.length} up` : `${down} of ${workers.length} down`, down === 0],
  ];
  if (picture.ledger !== null) facts.push(["ledger", ...books(picture.ledger)]);
  return html`<dl class="proof" aria-label="Contract">${facts.map(([name, value, good]) => html`<div class=${good ? "good" : good === null ? "unproved" : "alarm"}>
    <dt>${name}</dt><dd><${Mark} good=${good} />${value}</dd></div>`)}</dl>`;
}

// Whether what is used reaches its store, and what waits for it where it does not.
function books({ up, waiting_bytes, held_bytes, dropped }) {
  if (dropped > 0) return [`${number(dropped)} requests lost`, false];
  if (held_bytes > 0) return [`${bytes(held_bytes)} in memory alone`, false];
  return up ? ["up", true] : [`away, ${bytes(waiting_bytes)} wait`, false];
}

const Mark = ({ good }) => html`<svg width="13" height="13" viewBox="0 0 12 12" role="img" aria-label=${good ? "good" : good === null ? "no proof" : "alarm"}>
  <path d=${good ? "M2 6.5l2.8 2.8L10 3.5" : good === null ? "M2 6h8" : "M6 1.5v5.5M6 9v1.8"} fill="none" stroke="currentColor" stroke-width="2" /></svg>`;

// Ends that are neither the router's nor a cloud's fault.
const FINE = new Set(["ok", "client_error", "client_gone"]);

function Figures({ picture, history }) {
  const known = picture.over_s !== null;
  const over = (read) => (known ? picture.workloads.reduce((total, each) => total + read(each), 0) : null);
  const requests = over((each) => sum(each.outcomes));
  const failed = over((each) => sum(Object.fromEntries(Object.entries(each.outcomes).filter(([outcome]) => !FINE.has(outcome)))));
  const figures = [
    ["requests/s", known ? rate(requests) : "–", html`<${Spark} values=${history} />`],
    ["not served/s", known ? rate(failed) : "–", failed > 0 ? "bad" : ""],
    ["first byte p50", ms(picture.first_byte.p50_ms)],
    ["first byte p99", ms(picture.first_byte.p99_ms)],
    ["in flight", number(picture.workloads.reduce((total, each) => total + each.in_flight, 0))],
    ["waiting", number(sum(picture.waiting))],
    ["tokens/s in", known ? rate(over((each) => each.prompt_tokens)) : "–"],
    ["tokens/s out", known ? rate(over((each) => each.completion_tokens)) : "–"],
    ["cost/h", known ? usd(over((each) => each.usd_per_h)) : "–"],
    ...(picture.ledger !== null ? [["cost today", usd(picture.ledger.cost_today_usd)]] : []),
    ["without a key/s", known ? rate(picture.strangers) : "–"],
    ["clients", number(picture.client_connections)],
  ];
  return html`<dl class="figures" aria-label="Key figures">${figures.map(([name, value, more]) => html`<div>
    <dt>${name}</dt><dd class=${typeof more === "string" ? more : ""}>${value}</dd>${typeof more === "object" && more}</div>`)}</dl>`;
}

function Spark({ values }) {
  if (values.length < 2) return null;
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => `${((index / (values.length - 1)) * 100).toFixed(1)},${(22 - (value / top) * 20).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><polyline points=${points.join(" ")} /></svg>`;
}

render(html`<${App} />`, document.getElementById("root"));
