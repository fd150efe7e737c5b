// One connection for all tabs of a browser: it allows six to a host, and 20 tabs would wait for each other.
"use strict";
const LEAST_MS = 1000;
const MOST_MS = 30000;
const ports = new Set();
let last = null;
let source = null;
let wait = LEAST_MS;
let again = 0;

function connect() {
  clearTimeout(again);
  if (source !== null && source.readyState !== EventSource.CLOSED) return;
  source = new EventSource("/events");
  source.onmessage = (event) => {
    wait = LEAST_MS;
    last = event.data;
    for (const port of ports) port.postMessage(last);
  };
  source.onerror = () => {
    // after an answer that is no stream (another run, whose cookie is new; too many pages) it does not try again itself
    if (source.readyState !== EventSource.CLOSED) return;
    last = null;
    again = setTimeout(connect, wait);
    wait = Math.min(2 * wait, MOST_MS);
  };
}

connect();
onconnect = (event) => {
  const port = event.ports[0];
  ports.add(port);
  port.onmessage = () => ports.delete(port);
  if (last !== null) port.postMessage(last);
  connect(); // who opens a page has the cookie of this run
};
