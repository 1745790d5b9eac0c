// Turnout on a shop's pages: keeps the visitor's click, reports orders. See tracker/api/README.md.
(() => {
  "use strict";
  const safely = (work, otherwise) => (...given) => {
    try { return work(...given); } catch { return otherwise; } // no page breaks because of us
  };
  const tag = document.currentScript || document.querySelector("script[data-pixel-key]");
  const { pixelKey = "", parameter = "click_id", domain = "", oldHost = "", oldParams = "" } = (tag && tag.dataset) || {};
  const CLICK = "turnout_click_id", OLD = "turnout_old_click_id";

  const named = safely((name) => (new URL(location.href).searchParams.get(name.trim()) || "").trim().slice(0, 255), "");
  const arrived = named(parameter);
  const kept = safely((name) => decodeURIComponent((RegExp("(?:^|;\\s*)" + name + "=([^;]*)").exec(document.cookie) || ["", ""])[1]), "");
  const clickId = () => kept(CLICK) || arrived;
  const address = (file) => new URL(file, tag.src).href;
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

  const keep = safely((name, id) => {
    document.cookie = name + "=" + encodeURIComponent(id) + "; Path=/; Max-Age=7776000; SameSite=Lax"
      + (domain && "; Domain=" + domain) + (location.protocol === "https:" ? "; Secure" : "");
  });

  const visit = safely(() => {
    const src = address("visit.gif?") + new URLSearchParams({ pixel_key: pixelKey, click_id: arrived });
    if (pixelKey) Object.assign(new Image(), { referrerPolicy: "origin", src }); // the tracker asks for it
  });

  const seen = safely(() => { // the old platform's click id, told to the old host's name, once
    const id = oldParams.split(",").map(named).find(Boolean);
    if (!oldHost || !id || id === kept(OLD)) return;
    keep(OLD, id);
    new Image().src = `https://${oldHost}/-/seen.gif?` + new URLSearchParams({ old_click_id: id });
  });

  const conversion = safely((order) => {
    if (!pixelKey) return false;
    const said = new URLSearchParams({ pixel_key: pixelKey });
    if (clickId()) said.set("click_id", clickId());
    for (const [name, value] of Object.entries(order || {})) if (value != null) said.set(name, text(value));
    const beacon = safely(() => navigator.sendBeacon(address("pixel.gif"), said), false);
    if (!beacon()) new Image().src = address("pixel.gif?") + said;
    return true;
  }, false);

  const fill = safely(() => {
    if (clickId()) for (const input of document.querySelectorAll('input[type="hidden"][name="click_id"]')) input.value = clickId();
  });

  const tellShopify = safely(() => {
    const click = clickId();
    if (!window.Shopify || !click) return;
    fetch("/cart.js", { headers: { Accept: "application/json" } })
      .then((answer) => answer.json())
      .then(({ attributes }) => (attributes && attributes.click_id === click) || fetch("/cart/update.js", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ attributes: { click_id: click } }),
      }))
      .catch(() => {});
  });

  safely(() => {
    if (arrived) { keep(CLICK, arrived); visit(); }
    seen();
    const waiting = window.turnoutConversions || [];
    window.turnout = { clickId, conversion };
    window.turnoutConversions = { push: conversion };
    waiting.forEach((order) => conversion(order));
    const ready = () => { fill(); tellShopify(); };
    document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", ready) : ready();
    document.addEventListener("submit", fill, true); // later forms
  })();
})();
