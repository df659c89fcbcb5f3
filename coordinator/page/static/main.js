// The page: fetches the present, keeps it live, shows a day. Everything that is text is set as text.

import { EnvelopeChart, PriceChart } from "./charts.js";
import { Diagram } from "./diagram.js";
import { gauge } from "./gauge.js";
import { HomePanel } from "./home.js";
import { Live } from "./live.js";
import { Replay } from "./replay.js";
import { STATES, clock, date, envelopeWords, feederWords, netWords, power, sign } from "./words.js";

const at = (id) => document.getElementById(id);
const MAX_POINTS = 2000;
const state = { login: null, session: null, view: null, points: [], replaying: false, chosen: null, up: false };

const chart = new EnvelopeChart(at("chart"));
const prices = new PriceChart(at("price-chart"));
const homePanel = new HomePanel();
const diagram = new Diagram(at("diagram"), (bus) => chooseHome(state.view?.homes?.find((home) => home.bus === bus)?.name));
const live = new Live({ onMessage, onUp, onDown });
const replay = new Replay({ ask, onStep: showStep, onLeave: showLive });

async function ask(path) {
  const headers = state.login ? { Authorization: `Bearer ${state.login.name}:${state.login.token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
  if (!answer.ok) {
    const error = new Error((await answer.text()).slice(0, 200) || `status ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return answer.json();
}

async function begin() {
  try {
    const [session, feeder, now] = await Promise.all([ask("api/session"), ask("api/feeder"), ask("api/now")]);
    state.session = session;
    at("community").textContent = session.community;
    at("network").textContent = feeder.network === session.community ? "" : feeder.network;
    document.title = `${session.community} · Commonwatt`;
    at("login-open").textContent = session.name ? "Log out" : "Log in";
    at("who").textContent = session.name
      ? `Logged in as ${session.name}.`
      : session.sees_all ? "An open page: everybody who reaches it sees every home." : "Nobody is logged in: no household is shown.";
    diagram.setFeeder(feeder);
    if (!feeder.buses.length) at("diagram").textContent = "This network has too many places to be drawn.";
    state.points = now.points;
    homePanel.clear();
    at("homes-panel").hidden = !session.sees_all;
    if (now.home) homePanel.setHome(now.home, "My home", now.own);
    state.leader = now.leader ?? null;
    show(now.view);
    performance.mark("useful");
    live.connect(session, state.login);
  } catch (error) {
    if (error.status === 401) return logOut();
    banner(`The server does not answer (${error.message}). Trying again …`);
    setTimeout(begin, 3000);
  }
}

async function catchUp() {
  const now = await ask("api/now");
  state.points = now.points;
  if (now.home) homePanel.setHome(now.home, "My home", now.own);
  if (!state.replaying) show(now.view);
}

function onMessage(topic, content) {
  if (topic.endsWith("/page/view") || topic.endsWith("/page/feeder")) {
    addPoint(content);
    if (state.replaying) state.view = content;
    else show(content);
  } else if (topic.endsWith("/telemetry")) {
    homePanel.addTelemetry(content);
  } else if (topic.endsWith("/status") && homePanel.name === content.sender) {
    homePanel.setState(content.state, content.reasons ?? []);
  } else if (topic.endsWith("/certificate") && content.body?.leader) {
    state.leader = content.body.leader;
  }
}

function onUp() {
  const again = state.up === false && state.wasUp;
  state.up = state.wasUp = true;
  banner("");
  liveBadge();
  if (again) catchUp().catch(() => {});
}

function onDown() {
  if (state.up || !state.wasUp) {
    state.up = false;
    const since = state.view?.time_s ? ` What you see is from ${clock(state.view.time_s)}.` : "";
    banner(`The live connection is gone.${since} It comes back by itself.`);
  }
  liveBadge();
}

function liveBadge() {
  const fed = state.view?.facts?.fed !== false;
  const on = state.up && fed;
  at("live").className = `live ${on ? "on" : "off"}`;
  at("live-text").textContent = on ? "live" : state.up ? "the homes' broker is away" : "not connected";
}

function banner(words) {
  const box = at("banner");
  if (box.textContent !== words) box.textContent = words;
  box.hidden = words === "";
}

function addPoint(view) {
  if (!view.total) return;
  const last = state.points.at(-1);
  if (last && view.time_s <= last[0]) return;
  state.points.push([view.time_s, view.total.net_import_w, view.total.import_limit_w, view.total.export_limit_w]);
  if (state.points.length > MAX_POINTS) state.points.shift();
}

function show(view) {
  state.view = view;
  const { facts, total } = view;
  at("clock").textContent = view.time_s ? `${date(view.time_s)} ${clock(view.time_s)}` : "no measurement yet";
  at("clock").dateTime = new Date(view.time_s * 1000).toISOString();
  showTotal(total, facts);
  showFeeder(view.levels, view.loading_pct, facts.secret);
  diagram.show(view.levels, view.loading_pct, view.voltage_v, view.homes && new Map(view.homes.map((home) => [home.bus, home.name])));
  at("homes-count").textContent = facts.secret ? `${facts.homes}` : `${facts.reporting} of ${facts.homes}`;
  at("homes-words").textContent = facts.secret ? "report in secret" : facts.reporting === 0 ? "none has reported lately" : "reported lately";
  const leader = view.leader ?? state.leader;
  at("leader-figure").hidden = facts.term === null;
  at("leader").textContent = leader ?? "elected";
  const round = facts.round_name ? ` · round ${facts.round_name} ${facts.round_state}` : "";
  at("round").textContent = `term ${facts.term}${round}`;
  at("coordinator").textContent = (STATES[facts.coordinator] ?? facts.coordinator).replace(/^\S+ /, "");
  at("coordinator-words").textContent = facts.reasons.join("; ") || (facts.coordinator === "online" ? "nothing to report" : "");
  showPrice(facts.price, view.time_s);
  showEvents(facts.events);
  showHomes(view.homes);
  chart.setMark(null);
  chart.setSpan(null, null);
  chart.setSeries(...[0, 1, 2, 3].map((column) => state.points.map((point) => point[column])));
  liveBadge();
}

function showTotal(total, facts) {
  at("net").textContent = netWords(total?.net_import_w);
  const envelope = total ? envelopeWords(total.import_limit_w, total.export_limit_w) : "";
  at("net-words").textContent = total && facts.secret ? `${envelope}; homes sum in secret: none tells its own power`
    : total ? envelope
    : facts.secret ? "homes sum in secret and say nothing of their own power"
    : facts.reporting > 0 ? "too few homes report for a sum that shows none of them" : "waiting for measurements";
  gauge(at("net-gauge"), total?.net_import_w, total?.import_limit_w, total?.export_limit_w);
}

function showFeeder(levels, loading, secret = false) {
  const [headline, words] = feederWords(levels, secret);
  at("feeder-state").textContent = headline;
  const known = loading.filter((value) => value !== null && value !== undefined);
  const most = known.length ? `; most loaded branch at ${Math.round(Math.max(...known))} %` : "";
  at("feeder-words").textContent = words;
  at("diagram-words").textContent = `${headline[0].toUpperCase()}${headline.slice(1)}: ${words}${most}.`;
}

function showPrice(price, nowS) {
  at("price-panel").hidden = at("price-figure").hidden = !price;
  if (!price) return;
  const index = Math.floor((nowS - price.start_s) / price.step_s);
  const present = price.per_kwh[Math.min(Math.max(index, 0), price.per_kwh.length - 1)];
  at("price").textContent = present.toFixed(3);
  const whose = price.mechanism ? `, mean of the homes (${price.mechanism})` : "";
  at("price-words").textContent = `per kWh, ${price.final ? "agreed" : "being negotiated"}${whose}`;
  prices.show([price.per_kwh.map((_, step) => price.start_s + step * price.step_s), price.per_kwh]);
}

// The same thing that befalls several homes within a minute is one line.
function gathered(events) {
  const lines = [];
  for (const event of [...events].reverse()) {
    const last = lines.at(-1);
    if (last && event.who && last.who && last.kind === event.kind && last.text === event.text && last.time_s - event.time_s < 60) {
      last.others += 1;
    } else {
      lines.push({ ...event, others: 0 });
    }
  }
  return lines;
}

function showEvents(events) {
  const rows = gathered(events).map((event) => {
    const row = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = clock(event.time_s);
    const mark = document.createElement("span");
    mark.textContent = sign(event.kind);
    mark.setAttribute("aria-hidden", "true");
    const words = document.createElement("span");
    const who = event.others ? `${event.who} and ${event.others} more` : event.who;
    words.textContent = who ? `${who}: ${event.text}` : event.text;
    row.append(time, mark, words);
    return row;
  });
  if (rows.length === 0) {
    const row = document.createElement("li");
    row.className = "quiet";
    row.textContent = state.replaying ? "Nothing until this time of the day." : "Nothing since this page's server began to listen.";
    rows.push(row);
  }
  at("events").replaceChildren(...rows);
}

function showHomes(homes) {
  if (!homes) return;
  const cell = (text, number = true) => {
    const box = document.createElement("td");
    if (number) box.className = "number";
    box.textContent = text;
    return box;
  };
  const body = at("homes");
  const focused = document.activeElement?.dataset?.home;
  body.replaceChildren(...homes.map((home) => {
    const row = document.createElement("tr");
    const name = document.createElement("td");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = home.name;
    button.dataset.home = home.name;
    button.addEventListener("click", () => chooseHome(home.name));
    name.append(button);
    const limits = home.import_limit_w === null && home.export_limit_w === null ? "–" : `${power(home.export_limit_w)} out, ${power(home.import_limit_w)} in`;
    const battery = home.battery_w === null ? "–" : `${power(home.battery_w)}${home.soc_frac === null ? "" : ` · ${Math.round(100 * home.soc_frac)} %`}`;
    row.append(
      name, cell(STATES[home.state] ?? home.state, false), cell(power(home.net_import_w)), cell(limits),
      cell(home.pv_w === null ? "–" : power(-home.pv_w)), cell(battery), cell(power(home.ev_w)),
      cell(home.voltage_v.length ? `${home.voltage_v.map((volts) => volts.toFixed(1)).join(" / ")} V` : "–"),
    );
    return row;
  }));
  if (focused) body.querySelector(`[data-home="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  const chosen = homes.find((home) => home.name === state.chosen);
  if (chosen && !state.replaying) homePanel.update(chosen);
}

function chooseHome(name) {
  const home = state.view?.homes?.find((one) => one.name === name);
  if (!home) return;
  state.chosen = name;
  homePanel.setHome(home, home.name, null);
  ask(`api/home?name=${encodeURIComponent(name)}`).then((answer) => state.chosen === name && homePanel.setHome(answer.home, name, answer.own)).catch(() => {});
  at("home-panel").scrollIntoView({ block: "nearest" });
}

function showStep(day, step) {
  state.replaying = true;
  document.body.classList.add("replaying");
  const total = day.net_import_w[step] === null ? null
    : { net_import_w: day.net_import_w[step], import_limit_w: day.import_limit_w[step], export_limit_w: day.export_limit_w[step] };
  showTotal(total, { homes: 1, reporting: day.reporting[step] });
  showFeeder(day.levels[step], day.loading_pct[step]);
  diagram.show(day.levels[step], day.loading_pct[step]);
  at("homes-count").textContent = `${day.reporting[step]} of ${state.view?.facts?.homes ?? "–"}`;
  const times = day.net_import_w.map((_, index) => day.start_s + (index + 0.5) * day.step_s);
  chart.setSpan(day.start_s, day.start_s + times.length * day.step_s);
  chart.setSeries(times, day.net_import_w, day.import_limit_w, day.export_limit_w);
  chart.setMark(times[step]);
  at("clock").textContent = `${date(times[step])} ${clock(times[step], false)}`;
  showEvents(day.events.filter((event) => event.time_s <= day.start_s + (step + 1) * day.step_s));
  if (day.own) homePanel.showDay(day, step);
}

function showLive() {
  state.replaying = false;
  document.body.classList.remove("replaying");
  homePanel.showLive();
  catchUp().catch(() => state.view && show(state.view));
}

function logOut() {
  sessionStorage.removeItem("login");
  state.login = null;
  state.leader = null;
  begin();
}

function wireLogin() {
  const dialog = at("login");
  at("login-open").addEventListener("click", () => {
    if (state.login) return logOut();
    at("login-problem").textContent = "";
    dialog.showModal();
  });
  at("login-cancel").addEventListener("click", () => dialog.close());
  at("login-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const login = { name: at("login-name").value.trim(), token: at("login-token").value.trim() };
    const before = state.login;
    state.login = login;
    try {
      await ask("api/session");
    } catch (error) {
      state.login = before;
      at("login-problem").textContent = error.status === 401 ? "No such name and token." : error.message;
      return;
    }
    sessionStorage.setItem("login", JSON.stringify(login));
    at("login-token").value = "";
    dialog.close();
    begin();
  });
}

function remembered() {
  try {
    const login = JSON.parse(sessionStorage.getItem("login"));
    return typeof login?.name === "string" && typeof login?.token === "string" ? login : null;
  } catch {
    return null;
  }
}

state.login = remembered();
wireLogin();
begin();
