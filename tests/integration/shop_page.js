// A shop's page for turnout.js, as far as the script looks at it. Reads {pages: [...]} from stdin, prints what each page did.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const { script, pages } = JSON.parse(fs.readFileSync(0, "utf8"));
const jar = new Map(); // the browser's cookies of the shop

function open(page) {
  const seen = { images: [], policies: [], beacons: [], fetched: [], errors: [], cookies: [] };
  const listeners = [];
  const inputs = (page.inputs || []).map((value) => ({ value }));
  const window = {};
  const document = {
    currentScript: { src: page.src || "https://track.example/turnout.js", dataset: page.data || {} },
    readyState: page.readyState || "complete",
    get cookie() { return [...jar].map(([name, value]) => `${name}=${value}`).join("; "); },
    set cookie(text) {
      seen.cookies.push(text);
      const [name, value] = text.split(";")[0].split("=");
      jar.set(name, value);
    },
    querySelector: () => null,
    querySelectorAll: (selector) => (selector.includes('type="hidden"') && selector.includes('name="click_id"') ? inputs : []),
    addEventListener: (kind, work) => listeners.push([kind, work]),
  };
  const location = { href: page.url, protocol: new URL(page.url).protocol };
  const navigator = page.beacon === "none" ? {} : {
    sendBeacon: (url, body) => { seen.beacons.push([url, String(body)]); return page.beacon !== "refused"; },
  };
  class Image { set src(url) { seen.images.push(url); seen.policies.push(this.referrerPolicy || ""); } }
  const fetched = [];
  const fetch = (url, options = {}) => {
    seen.fetched.push([options.method || "GET", url, options.body || ""]);
    const answer = page.shopifyFails ? Promise.reject(new Error("no")) : Promise.resolve({ json: async () => page.cart || {} });
    fetched.push(answer.catch(() => {}));
    return answer;
  };
  Object.assign(window, page.window || {});
  const broken = () => { throw new Error("this page is broken"); };
  const scope = { window, document, location, navigator, Image, fetch, URL, URLSearchParams };
  if (page.broken) Object.defineProperty(document, "cookie", { get: broken, set: broken });
  if (page.broken) document.querySelectorAll = broken;
  const context = vm.createContext(scope, { codeGeneration: { strings: false, wasm: false } }); // as under a strict CSP: no eval
  try {
    if (page.inline) vm.runInContext(page.inline, context);
    vm.runInContext(script, context);
    const happens = (what) => listeners.forEach(([kind, work]) => { if (kind === what) work(); });
    happens("DOMContentLoaded");
    if (page.late) { inputs.push({ value: "" }); happens("submit"); } // a form that came later
    seen.clickId = window.turnout.clickId();
    seen.sent = (page.conversions || []).map((order) => window.turnout.conversion(order));
    (page.pushed || []).forEach((order) => window.turnoutConversions.push(order));
  } catch (error) {
    seen.errors.push(String(error));
  }
  seen.inputs = inputs.map((input) => input.value);
  return new Promise((resolve) => setTimeout(() => resolve(seen), 5));
}

process.on("unhandledRejection", (error) => { console.error(error); process.exit(1); });
(async () => {
  const found = [];
  for (const page of pages) found.push(await open(page));
  console.log(JSON.stringify(found));
})();
