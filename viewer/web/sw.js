// @ts-check
// Service worker of an exported page: after the first visit it opens without a connection. The export fills in what is
// kept; another export has another version, which replaces the one before.

const VERSION = "";
/** What opens the page. @type {string[]} */
const SHELL = [];
/** What it shows: kept once the page asks for it. @type {string[]} */
const SCENE = [];

const worker = /** @type {any} */ (globalThis);
const prefix = `smerf ${worker.registration.scope} `;
const store = prefix + VERSION;

worker.addEventListener("install", (event) => {
  worker.skipWaiting();
  event.waitUntil(keep(SHELL, "reload"));
});

worker.addEventListener("activate", (event) => event.waitUntil(takeOver()));

worker.addEventListener("message", (event) => {
  if (event.data === "keep") event.waitUntil(keepScene(event.source));
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  // What the page found damaged is fetched past every cache.
  if (request.method === "GET" && request.url.startsWith(worker.registration.scope) && request.cache !== "reload") {
    event.respondWith(answer(request));
  }
});

async function takeOver() {
  const old = (await caches.keys()).filter((each) => each.startsWith(prefix) && each !== store);
  await Promise.all(old.map((each) => caches.delete(each)));
  await worker.clients.claim();
}

/** @param {string[]} paths @param {RequestCache} cache */
async function keep(paths, cache) {
  const kept = await caches.open(store);
  let isNew = false;
  for (const path of paths) {
    if (await kept.match(path)) continue;
    await kept.add(new Request(path, { cache }));
    isNew = true;
  }
  return isNew;
}

async function keepScene(client) {
  // Mostly from the browser's own cache: the page has just fetched it.
  if (await keep(SCENE, "force-cache")) client.postMessage("kept");
}

async function answer(request) {
  const kept = await caches.open(store);
  return (await kept.match(request, { ignoreSearch: request.mode === "navigate" })) ?? fetch(request);
}
