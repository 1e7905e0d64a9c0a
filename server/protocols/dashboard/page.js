// The page: asks for the state every two seconds while it is looked at, and has every part shown.

import { prepare as prepareAdmin, showAdmin } from "./admin.js";
import { byId } from "./elements.js";
import { History } from "./history.js";
import { showComparisons, showModels } from "./models.js";
import { attention, showBanners, showDevices, showStatus, showTiles, showUnreachable } from "./overview.js";
import { showRequests } from "./requests.js";
import { read, useKey } from "./server.js";
import { prepare as prepareTrial, showTrial } from "./trial.js";

const PERIOD_MS = 2_000;
const TIMEOUT_MS = 10_000;
const KEPT_MS = 1_100; // longer than the server keeps a state

const history = new History();
let state = null;
let seen = new Date();
let timer = 0;

async function poll() {
  clearTimeout(timer);
  const begun = performance.now();
  try {
    state = await read("dashboard/state", { signal: AbortSignal.timeout(TIMEOUT_MS) });
    seen = new Date();
    history.add(state);
    byId("key").hidden = true;
    document.body.classList.remove("stale");
    render();
  } catch (error) {
    failed(error);
    if (error.status === 401) return; // the form of the key goes on
  }
  // A server that needs long for a state is asked less often.
  if (!document.hidden) timer = setTimeout(poll, Math.max(PERIOD_MS, 10 * (performance.now() - begun)));
}

function failed(error) {
  byId("loading").hidden = true;
  if (error.status === 401) {
    byId("status").textContent = "locked";
    byId("key").hidden = false;
    showBanners(byId("key-value").value ? [["bad", error.message]] : []);
    byId("key-value").focus();
    return;
  }
  document.body.classList.add("stale");
  const why = error.status ? error.message : error.name === "TimeoutError" ? "no answer in 10 seconds" : "the connection failed";
  showUnreachable(seen, why);
}

function render() {
  byId("loading").hidden = true;
  byId("shown").hidden = false;
  showStatus(state);
  showBanners(attention(state, history));
  showTiles(history);
  showModels(state, history);
  showComparisons(state);
  showRequests(state, history);
  showDevices(state, history);
  showTrial(state);
  showAdmin(state);
}

byId("key").addEventListener("submit", event => {
  event.preventDefault();
  useKey(byId("key-value").value.trim());
  void poll();
});
byId("chosen").addEventListener("change", () => showRequests(state, history));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else void poll();
});
prepareTrial();
prepareAdmin(() => {
  void poll();
  setTimeout(poll, KEPT_MS); // the first state may be one from before the change
});
void poll();
