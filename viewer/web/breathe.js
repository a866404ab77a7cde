// @ts-check
// Lets the page draw and answer in the middle of long computations.

const BUDGET_MS = 4;
let since = 0;

export function isTimeUp() {
  return performance.now() - since > BUDGET_MS;
}

// Resolves in a later task. Unlike a timer, a message is not delayed by the browser.
/** @returns {Promise<void>} */
export function breathe() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      since = performance.now();
      resolve();
    };
    port2.postMessage(null);
  });
}
