// The calculator of howto/pool-size.md; its formula is that of the Python there, and a test compares.
"use strict";

function poolSize(limit, reserved, pods, surge, workers, rate, hold) {
  const processes = Math.ceil(pods * (1 + surge)) * workers;
  const allowed = Math.floor((limit - reserved) / processes);
  const inUse = (rate * hold) / (pods * workers);
  return [allowed, Math.max(1, Math.ceil(inUse + 2 * Math.sqrt(inUse))), processes];
}

function poolSizeCalculator(place) {
  const fields = [
    ["limit", "connections that the server admits", 200, 1],
    ["reserved", "of these for others: superuser, jobs, you", 10, 0],
    ["pods", "pods or machines at most", 6, 1],
    ["surge", "more of them during a deploy, per cent", 25, 0],
    ["workers", "processes in each", 4, 1],
    ["rate", "requests a second, all together, at the peak", 800, 0],
    ["hold", "milliseconds that each holds a connection", 20, 0],
  ];
  const form = document.createElement("form");
  form.className = "pool-size";
  const inputs = fields.map(([name, text, value, least]) => {
    const label = form.appendChild(document.createElement("label"));
    label.append(text + " ");
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, { type: "number", name: name, value: value, min: least, step: "any" });
    return input;
  });
  const output = form.appendChild(document.createElement("output"));

  function show() {
    const [limit, reserved, pods, surge, workers, rate, hold] = inputs.map((each) => each.valueAsNumber);
    const [allowed, wanted, processes] = poolSize(
      limit, reserved, pods, surge / 100, workers, rate, hold / 1000);
    if (![allowed, wanted].every(Number.isFinite)) {
      output.textContent = "A number is missing, or there are no processes.";
    } else if (allowed < 1) {
      output.textContent =
        `Not even one connection for each of ${processes} processes (${allowed}): fewer processes, or a proxy.`;
    } else if (wanted > allowed) {
      output.textContent =
        `maxsize=${allowed}, though each of ${processes} processes would need ${wanted} at the peak: ` +
        "hold shorter, use fewer processes, or a proxy.";
    } else {
      output.textContent =
        `maxsize=${wanted}; each of ${processes} processes may have up to ${allowed}.`;
    }
  }
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
  place.replaceChildren(form);
}

if (typeof document !== "undefined") {
  const place = document.getElementById("pool-size-calculator");
  if (place) poolSizeCalculator(place);
}
