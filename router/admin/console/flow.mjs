// The picture of what goes where: workloads, the clouds that serve them, and the deployments behind these.
// A line is as wide as its requests a second; a dotted one is a way that is open and not used.

import { rate, sum } from "./format.mjs";
import { html } from "./html.mjs";
import { Shape } from "./verdict.mjs";

const NARROW = 680;
const ROW = 30;
const GROUP_GAP = 14;
const HEAD = 12; // for the first cloud's name, which stands above its bar
const BAR = 5;
const THICKEST = 22;
const LOST = ["refused", "upstream_error", "internal_error"];

export function Flow({ picture, width }) {
  const fleet = fleetOf(picture);
  if (fleet.clouds.length === 0) return html`<p class="muted">There is no deployment.</p>`;
  return width < NARROW ? html`<${List} ...${fleet} />` : html`<${Diagram} ...${fleet} width=${width} />`;
}

// Nodes with their rates, and the ways between them.
function fleetOf(picture) {
  const clouds = new Map();
  for (const each of picture.deployments) {
    const cloud = each.stand.cloud;
    if (!clouds.has(cloud)) clouds.set(cloud, { name: cloud, rate: 0, deployments: [] });
    clouds.get(cloud).deployments.push({ ...each.stand, rate: sum(each.outcomes) });
  }
  const flows = new Map(picture.flows.map((flow) => [`${flow.workload}\n${flow.cloud}`, flow.requests]));
  const ways = [];
  for (const { placing } of picture.workloads) {
    for (const cloud of placing.clouds.filter((name) => clouds.has(name))) {
      const requests = flows.get(`${placing.name}\n${cloud}`) ?? 0;
      ways.push({ from: placing.name, to: cloud, rate: requests });
      clouds.get(cloud).rate += requests;
    }
  }
  const workloads = picture.workloads.map(({ placing, outcomes }) => ({
    name: placing.name,
    rule: placing.rule,
    rate: sum(outcomes),
    lost: LOST.reduce((total, outcome) => total + (outcomes[outcome] ?? 0), 0),
  }));
  return { workloads, clouds: [...clouds.values()], ways };
}

function Diagram({ workloads, clouds, ways, width }) {
  const height = clouds.reduce((total, cloud) => total + cloud.deployments.length * ROW, (clouds.length - 1) * GROUP_GAP) + HEAD;
  const longest = Math.max(...workloads.map((each) => short(each.name).length), 12);
  const columns = [longest * 8 + 12, Math.round(width * 0.44), width - 340];
  let y = HEAD;
  for (const cloud of clouds) {
    const top = y;
    for (const each of cloud.deployments) {
      each.y = y + ROW / 2;
      y += ROW;
    }
    cloud.y = (top + y) / 2;
    y += GROUP_GAP;
  }
  workloads.forEach((each, index) => (each.y = HEAD + ((height - HEAD) * (index + 0.5)) / workloads.length));
  const deployments = clouds.flatMap((cloud) => cloud.deployments);
  const busiest = Math.max(...deployments.map((each) => each.rate), Math.max(...clouds.map((each) => each.rate)) / 2, Math.max(...workloads.map((each) => each.rate)) / 2, 1e-9);
  const thick = (requests) => (requests > 0 ? Math.max(1.5, (requests / busiest) * THICKEST) : 0);
  return html`<svg class="flow" width=${width} height=${height} role="img" aria-label=${spoken(workloads, ways, deployments)}>
    ${links(workloads, clouds, ways, columns, thick)}
    ${workloads.map((each) => html`<g key=${`w ${each.name}`}>
      <${Bar} x=${columns[0]} y=${each.y} thickness=${thick(each.rate)} />
      <text x=${columns[0] - 8} y=${each.y - 2} text-anchor="end" class="name">${short(each.name)}<title>${each.name}: ${each.rule}</title></text>
      <text x=${columns[0] - 8} y=${each.y + 13} text-anchor="end" class="small">${rate(each.rate)}/s</text>
      ${each.lost > 0 && html`<text x=${columns[0] - 8} y=${each.y + 28} text-anchor="end" class="small lost">${rate(each.lost)} not served</text>`}
    </g>`)}
    ${clouds.map((each) => html`<g key=${`c ${each.name}`}>
      <${Bar} x=${columns[1]} y=${each.y} thickness=${thick(each.rate)} />
      <text x=${columns[1] + BAR} y=${each.y - Math.max(thick(each.rate), 8) / 2 - 5} text-anchor="end" class="name">${short(each.name)} <tspan class="small">${rate(each.rate)}/s</tspan></text>
    </g>`)}
    ${deployments.map((each) => html`<g key=${`d ${each.id}`} class=${`verdict ${each.standing.state}`}>
      <${Bar} x=${columns[2]} y=${each.y} thickness=${thick(each.rate)} />
      <${Shape} state=${each.standing.state} x=${columns[2] + 12} y=${each.y - 6} />
      <text x=${columns[2] + 30} y=${each.y + 4} class="id">${short(each.id, 30)}<title>${each.id}</title></text>
      <text x=${width} y=${each.y + 4} text-anchor="end" class="small">${rate(each.rate)}/s</text>
    </g>`)}
  </svg>`;
}

const Bar = ({ x, y, thickness }) =>
  html`<rect class="bar" x=${x} y=${y - Math.max(thickness, 8) / 2} width=${BAR} height=${Math.max(thickness, 8)} />`;

// Lines side by side where they begin and end, in the order of what they lead to.
function links(workloads, clouds, ways, [left, middle, right], thick) {
  const out = new Map(workloads.map((each) => [each.name, begin(each.y, ways.filter((way) => way.from === each.name), thick)]));
  const into = new Map(clouds.map((each) => [each.name, begin(each.y, ways.filter((way) => way.to === each.name), thick)]));
  const first = ways.map((way) => {
    const size = thick(way.rate);
    const [from, to] = [step(out, way.from, size), step(into, way.to, size)];
    return html`<${Line} key=${`${way.from} ${way.to}`} d=${curve(left + BAR, from, middle, to)} size=${size} />`;
  });
  const second = clouds.flatMap((cloud) => {
    const start = new Map([["", begin(cloud.y, cloud.deployments, thick)]]);
    return cloud.deployments.map((each) => {
      const size = thick(each.rate);
      const d = curve(middle + BAR, step(start, "", size), right, each.y);
      return html`<${Line} key=${each.id} d=${d} size=${size} state=${each.standing.state} />`;
    });
  });
  return [...first, ...second];
}

const begin = (y, lines, thick) => y - lines.reduce((total, line) => total + thick(line.rate), 0) / 2;

function step(places, name, size) {
  const at = places.get(name);
  places.set(name, at + size);
  return at + size / 2;
}

const curve = (x1, y1, x2, y2) => `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

const Line = ({ d, size, state = "" }) =>
  html`<path class=${`link ${state} ${size ? "" : "unused"}`} d=${d} stroke-width=${size || 1} />`;

function List({ workloads, clouds, ways }) {
  const busiest = Math.max(...ways.map((way) => way.rate), 1e-9);
  return html`<ul class="flows">${workloads.map((each) => html`<li key=${each.name}>
    <div class="pair"><b>${each.name}</b> <span>${each.lost > 0 && html`<span class="bad">${rate(each.lost)} not served, </span>`}${rate(each.rate)}/s</span></div>
    <div class="muted small">${each.rule}</div>
    <ul>${ways.filter((way) => way.from === each.name).map((way) => html`<li key=${way.to} class="pair">
      <span class="to">${way.to}</span>
      <span class="track"><span style=${{ width: `${(way.rate / busiest) * 100}%` }}></span></span>
      <span>${rate(way.rate)}/s</span>
    </li>`)}</ul>
  </li>`)}</ul>`;
}

const short = (text, length = 18) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function spoken(workloads, ways, deployments) {
  const served = ways.filter((way) => way.rate > 0).map((way) => `${way.from} to ${way.to}: ${rate(way.rate)} a second`);
  const bad = deployments.filter((each) => each.refusal).map((each) => `${each.id} is ${each.standing.state}`);
  return [`${workloads.length} workloads, ${deployments.length} deployments`, ...served, ...bad].join("; ");
}
