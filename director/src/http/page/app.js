// The dashboard: shows each frame of the stream `api/live`, and keeps the last minutes of them for the graphs.

import { Graph, Table, clock, commas, element, lasting, say, short, withUnit } from "./parts.js";

// What graphs reach back, in milliseconds; and the most services that are shown at once.
const SPAN = 300000;
const MOST_SERVICES = 100;

const find = (id) => document.getElementById(id);
const tables = {
  groups: new Table("Groups of VIPs", [["Group"], ["Held by"], ["This director is"], ["For", "number"], ["Term", "number"], ["Why"]]),
  peers: new Table("Other directors and the links to them", [["Director"], ["State"], ["Link"], ["Loss", "number"], ["Delay", "number"], ["Jitter", "number"], ["Remarks"]]),
  means: new Table("What follows the roles", [["Group"], ["What"], ["State"]]),
  events: new Table("Events, the newest first", [["When"], ["What"], ["From"], ["To"], ["Why"]]),
  counters: new Table("Counters of the data plane", [["Reason"], ["Packets", "number"], ["Each second", "number"]]),
};
for (const [id, table] of Object.entries(tables)) find(id).append(table.node);

const services = new Map();
let shown = null;
let lastEvent = "";

function show({ status, events }) {
  if (shown && shown.status.pid !== status.pid) lastEvent = "";
  shown = { status, events };
  const me = status.pair ? status.pair.cluster.me : "";
  say(find("me"), me);
  document.title = `${status.problems.length ? `(${status.problems.length}) ` : ""}${me ? `${me}: ` : ""}Director`;
  say(find("about"), `version ${status.version}, up ${lasting(status.uptime_seconds)}`);
  showProblems(status.problems);
  showCluster(status.pair);
  remember(status.services);
  showServices();
  const flows = status.flows;
  say(find("table-of-flows"), `${commas(flows.established)} connections established, ${commas(flows.other)} others; the flow table is ${(100 * flows.used / Math.max(1, flows.places)).toFixed(1)} % full`);
  showEvents(events);
  const reasons = status.reasons.filter((reason) => reason.count > 0);
  find("reasons").hidden = reasons.length === 0;
  tables.counters.show(reasons.map(({ name, count, rate }) => ({ key: name, cells: [name, commas(count), short(rate)] })));
}

function showProblems(problems) {
  find("problems").hidden = problems.length === 0;
  const list = find("problems").querySelector("ul");
  while (list.children.length > problems.length) list.lastChild.remove();
  problems.forEach((problem, i) => say(list.children[i] ?? list.appendChild(element("li")), problem));
}

function showCluster(pair) {
  find("cluster").hidden = !pair;
  if (!pair) return;
  const { cluster, means } = pair;
  const [reached, all] = cluster.witnesses;
  const remarks = [`This is ${cluster.me}.`];
  if (all > 0) remarks.push(`It reaches ${reached} of ${all} witnesses.`);
  if (cluster.held) remarks.push("An operator has it stay standby.");
  if (cluster.listening) remarks.push("It listens before it takes anything.");
  const refused = cluster.refused.reduce((sum, [, count]) => sum + count, 0);
  if (refused > 0) remarks.push(`${commas(refused)} messages were not trusted.`);
  say(find("remarks"), remarks.join(" "));
  tables.groups.show(cluster.groups.map((group) => ({
    key: group.name,
    cells: [
      group.name,
      group.owner ? { text: group.owner, kind: "good" } : { text: "nobody", kind: "bad" },
      { text: group.role, kind: group.role === "active" ? "good" : "" },
      lasting(group.since_seconds),
      commas(group.term),
      [group.why ?? "so since the start", group.unable ? `may not hold it: ${group.unable}` : ""].filter(Boolean).join("; "),
    ],
  })));
  tables.peers.show(cluster.peers.flatMap((peer) => peer.links.map((heard, i) => peerRow(peer, heard, cluster.links[i], i))));
  find("means").hidden = means.length === 0;
  tables.means.show(means.map((one) => ({
    key: `${one.group}\n${one.what}`,
    cells: [one.group, one.what, one.failure ? { text: `${one.state}: ${one.failure}`, kind: "bad" } : one.state],
  })));
}

function peerRow(peer, heard, link, i) {
  const since = peer.since_seconds === null ? "" : ` for ${lasting(peer.since_seconds)}`;
  let state = { text: `alive${since}`, kind: "good" };
  if (!peer.alive) state = { text: since ? `not heard${since}` : "never heard", kind: "bad" };
  else if (!peer.hears_us) state = { text: `alive${since}, does not hear this one`, kind: "bad" };
  const remarks = [];
  if (!link.open) remarks.push(`not open: ${link.last_error ?? "no error yet"}`);
  else if (!heard.heard) remarks.push("silent");
  if (i === 0 && peer.held) remarks.push("held back by an operator");
  if (i === 0 && peer.same_config === false) remarks.push("its configuration is another one");
  const time = (value) => value === null ? "" : `${value.toFixed(3)} ms`;
  return {
    key: `${peer.name}\n${i}`,
    cells: [
      peer.name, state, link.name, { text: `${(100 * heard.loss).toFixed(0)} %`, kind: heard.loss > 0.02 ? "warn" : "" },
      time(heard.delay_milliseconds), time(heard.jitter_milliseconds), { text: remarks.join("; "), kind: "bad" },
    ],
  };
}

// What one service shows, and the history of it and its real servers.
class Service {
  constructor(name) {
    this.history = [];
    this.reals = new Map();
    this.about = element("p");
    this.state = element("p", { class: "bad" });
    this.traffic = new Graph(`Traffic of ${name}`, ["in", "out"]);
    this.flows = new Graph(`Connections of ${name}`, ["in"]);
    this.figures = { in: element("span", { class: "in" }), out: element("span", { class: "out" }), packets: element("span"), flows: element("span", { class: "in" }), fresh: element("span") };
    const { figures } = this;
    this.table = new Table(`Real servers of ${name}`, [["Real server"], ["State"], ["Weight", "number"], ["Last check"], ["Connections", "number"], ["Others", "number"], ["In, bit/s", "number"], ["Out, bit/s", "number"], ["New/s", "number"], ["Traffic"]]);
    this.node = element("article", { class: "service", "data-service": name, "aria-label": name },
      element("div", { class: "title" }, element("h3", {}, name), this.about, this.state),
      element("div", { class: "graphs" },
        element("figure", {}, this.traffic.node, element("figcaption", {}, figures.in, figures.out, figures.packets)),
        element("figure", {}, this.flows.node, element("figcaption", {}, figures.flows, figures.fresh))),
      this.table.node);
  }

  remember(now, service) {
    keep(this.history, [now, service.rates.bits_in, service.rates.bits_out, service.active]);
    const gone = new Set(this.reals.keys());
    for (const real of service.reals) {
      const name = realName(real);
      gone.delete(name);
      let known = this.reals.get(name);
      if (!known) this.reals.set(name, known = { history: [], graph: new Graph(`Traffic of ${name}`, ["in", "out"]) });
      keep(known.history, [now, real.rates.bits_in, real.rates.bits_out]);
    }
    for (const name of gone) this.reals.delete(name);
  }

  show(service) {
    const host = service.address.includes(":") ? `[${service.address}]` : service.address;
    const persistence = service.persistence_seconds === null ? "" : `, persistence ${lasting(service.persistence_seconds)}`;
    say(this.about, `${service.protocol} ${host}:${service.ports}, ${service.forward}, ${service.scheduler}${persistence}`);
    say(this.state, serviceState(service));
    this.traffic.show(this.history, SPAN, "bit/s");
    this.flows.show(this.history.map(([time, , , active]) => [time, active]), SPAN, "connections");
    const { figures } = this;
    say(figures.in, `${withUnit(service.rates.bits_in, "bit/s")} in`);
    say(figures.out, service.forward === "nat" ? `${withUnit(service.rates.bits_out, "bit/s")} out` : "answers do not pass here");
    say(figures.packets, `${withUnit(service.rates.packets_in, "packets/s")} in`);
    say(figures.flows, `${commas(service.active)} connections`);
    say(figures.fresh, `${short(service.rates.new_flows)} new/s, ${commas(service.inactive)} that begin or end`);
    this.table.show(service.reals.map((real) => this.row(real, service)));
  }

  row(real, service) {
    const name = realName(real);
    const { graph, history } = this.reals.get(name);
    graph.show(history, SPAN, "bit/s");
    const weight = real.overridden ? `${real.weight} (${real.configured_weight})` : String(real.weight);
    return {
      key: name,
      cells: [
        name, realState(real, service), { text: weight, kind: real.weight === 0 ? "warn" : "" }, real.health ? real.health.reason : "no checks",
        commas(real.active), commas(real.inactive), short(real.rates.bits_in), service.forward === "nat" ? short(real.rates.bits_out) : "",
        short(real.rates.new_flows), { node: graph.node },
      ],
    };
  }
}

function keep(history, point) {
  history.push(point);
  while (history[0][0] < point[0] - SPAN) history.shift();
}

function realName({ address, port }) {
  if (port === null) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

const isUp = (real) => !real.health || real.health.state === "up";

function realState(real, service) {
  const since = real.health && real.health.since_seconds !== null ? ` for ${lasting(real.health.since_seconds)}` : "";
  if (!isUp(real)) return { text: `${real.health.state}${since}${service.panic ? ", serves all the same" : ""}`, kind: real.health.state === "down" ? "bad" : "warn" };
  if (real.id === null) return { text: "no room: a limit is used up", kind: "bad" };
  if (!real.reachable) return { text: "its MAC address is not known", kind: "bad" };
  if (real.weight === 0) return { text: real.overridden ? "drained by command" : "drained", kind: "warn" };
  const weight = real.overridden ? ", weight by command" : "";
  return { text: `${real.health ? `up${since}` : "in service"}${weight}`, kind: "good" };
}

function serviceState(service) {
  const states = [];
  if (service.id === null) states.push("no room: a limit is used up");
  else if (service.fallback) states.push("the fallback serves");
  else if (!service.reals.some((real) => real.reachable && real.weight > 0 && (service.panic || isUp(real)))) states.push("no real server");
  if (service.panic) states.push("too many are down: those serve, too");
  const unserved = service.no_real_dropped + service.no_real_rejected;
  if (unserved > 0) states.push(`${commas(unserved)} packets found no real server`);
  return states.join("; ");
}

function remember(list) {
  const now = Date.now();
  const gone = new Set(services.keys());
  for (const service of list) {
    gone.delete(service.name);
    if (!services.has(service.name)) services.set(service.name, new Service(service.name));
    services.get(service.name).remember(now, service);
  }
  for (const name of gone) {
    services.get(name).node.remove();
    services.delete(name);
  }
}

// Those that are asked for, up to a limit: a page of thousands helps nobody.
function showServices() {
  if (!shown) return;
  const all = shown.status.services;
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const asked = all.filter((service) => {
    const text = `${service.name} ${service.address} ${service.ports} ${service.reals.map(realName).join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  find("find").hidden = all.length < 6;
  const left = all.length - Math.min(asked.length, MOST_SERVICES);
  say(find("hidden"), left ? `${commas(left)} of ${commas(all.length)} are not shown` : "");
  const place = find("services");
  let last = null;
  for (const service of asked.slice(0, MOST_SERVICES)) {
    const one = services.get(service.name);
    one.show(service);
    const next = last ? last.nextSibling : place.firstChild;
    if (next !== one.node) place.insertBefore(one.node, next);
    last = one.node;
  }
  while (last ? last.nextSibling : place.firstChild) (last ? last.nextSibling : place.firstChild).remove();
}

function showEvents(events) {
  const newest = events.length ? String(events[events.length - 1].id) : "";
  find("none").hidden = events.length > 0;
  if (newest === lastEvent) return;
  lastEvent = newest;
  const kind = { up: "good", active: "good", down: "bad" };
  tables.events.show(events.toReversed().map((event) => ({
    key: event.id,
    cells: [
      clock(event.time), event.real ? `${event.service} ${event.real}` : event.service,
      event.from, { text: event.to, kind: kind[event.to] ?? "" }, event.reason,
    ],
  })));
}

function tell(state, text) {
  find("link").dataset.state = state;
  say(find("link"), text);
}

function connect() {
  const source = new EventSource("api/live");
  source.onmessage = ({ data }) => {
    tell("live", "live");
    show(JSON.parse(data));
  };
  source.addEventListener("trouble", ({ data }) => tell("lost", `the director says: ${JSON.parse(data)}`));
  source.onerror = () => {
    tell("lost", shown ? "lost; what is shown is old. Trying again" : "no answer. Trying again");
    // A refusal is not tried again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
}

find("filter").addEventListener("input", showServices);
connect();
