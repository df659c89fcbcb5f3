// What is live: MQTT over websockets at this page's own origin. It comes back by itself, sooner at first and later with more patience.

const LIBRARY = "vendor/mqtt-5.16.0.min.js";
const VISITOR = "visitor";
const FIRST_MS = 500;
const LAST_MS = 8000;

function loadLibrary() {
  return new Promise((resolve, reject) => {
    if (window.mqtt) return resolve();
    const script = document.createElement("script");
    script.src = LIBRARY;
    script.onload = resolve;
    script.onerror = () => reject(new Error("the MQTT library did not load"));
    document.head.append(script);
  });
}

export class Live {
  constructor({ onMessage, onUp, onDown }) {
    this.handlers = { onMessage, onUp, onDown };
    this.client = null;
    this.generation = 0;
  }

  async connect(session, login) {
    const generation = ++this.generation;
    this.client?.end(true);
    this.client = null;
    try {
      await loadLibrary();
    } catch {
      this.handlers.onDown();
      setTimeout(() => generation === this.generation && this.connect(session, login), LAST_MS);
      return;
    }
    if (generation !== this.generation) return;
    let wait = FIRST_MS;
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/mqtt`;
    const client = mqtt.connect(url, {
      protocolVersion: 5,
      clean: true,
      keepalive: 30,
      connectTimeout: 5000,
      reconnectPeriod: 0,
      timerVariant: "native",
      clientId: `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`,
      username: login?.name ?? VISITOR,
      password: login?.token ?? VISITOR,
    });
    this.client = client;
    client.on("connect", () => {
      wait = FIRST_MS;
      client.subscribe(session.topics, { qos: 0 }, (error) => (error ? client.end(true) : this.handlers.onUp()));
    });
    client.on("message", (topic, payload) => {
      let content;
      try {
        content = JSON.parse(new TextDecoder().decode(payload));
      } catch {
        return;
      }
      this.handlers.onMessage(topic, content);
    });
    client.on("error", () => {});
    client.on("close", () => {
      if (generation !== this.generation) return;
      this.handlers.onDown();
      setTimeout(() => generation === this.generation && client.reconnect(), wait * (0.7 + 0.6 * Math.random()));
      wait = Math.min(wait * 1.6, LAST_MS);
    });
  }
}
