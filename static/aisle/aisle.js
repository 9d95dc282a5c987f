// Aisle's few scripted comforts. Every page works without them.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const fill = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const percent = (share) => `${Math.round(share * 100)}%`;

function announce(words) {
  const live = $("#live");
  live.textContent = "";
  setTimeout(() => { live.textContent = words; }, 50);
}

function notify(words, href) {
  const notice = $("#notice-template").content.cloneNode(true);
  $("p", notice).append(words);
  if (href) {
    const link = Object.assign(document.createElement("a"), { href, target: "_blank", textContent: document.body.dataset.wordsLoginLink });
    $("p", notice).append(" ", link);
  }
  $("#notices").replaceChildren(notice);
  $("#notices").scrollIntoView({ block: "center" });
}

// Buttons that turn into progress in place

function busy(button, words) {
  if (!button) return;
  const label = $(".button-words", button);
  if (label && words) {
    button.dataset.idleWords ??= label.textContent;
    label.textContent = words;
  }
  button.setAttribute("aria-busy", "true");
}

function idle(root = document) {
  $$("[aria-busy='true']", root).forEach((button) => {
    button.removeAttribute("aria-busy");
    const label = $(".button-words", button);
    if (label && button.dataset.idleWords) label.textContent = button.dataset.idleWords;
  });
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  const running = $("[aria-busy='true']", form);
  if (running || (question && !window.confirm(question))) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  if (form.matches("[data-busy]")) busy(event.submitter ?? $("[type=submit]", form), event.submitter?.dataset.wordsWorking);
  event.submitter?.classList.add("chosen");
}, true);

window.addEventListener("pageshow", () => idle());

// The picker of categories, which the server searches

const picker = {
  input: (box) => $("#picker-search", box),

  // Whether the list belongs to what is in the field now.
  isCurrent: (box) => $("[data-picked-for]", box).dataset.pickedFor === picker.input(box).value,

  // Put what was searched in vain into the field of the requested category, unless the seller wrote something there.
  carryWish(box) {
    const field = $("[name=wish]", box);
    if (field.value !== (field.dataset.carried ?? "")) return;
    field.value = field.dataset.carried = $("[data-wish]", box).dataset.wish;
  },

  showProblem(box, isProblem) {
    const problem = $("[data-picker-problem]", box);
    problem.hidden = !isProblem;
    problem.textContent = isProblem ? problem.dataset.words : "";
  },

  move(box, from, step) {
    const stops = [picker.input(box), ...$$(".picker-item", box)];
    stops[Math.min(Math.max(stops.indexOf(from) + step, 0), stops.length - 1)].focus();
  },
};

document.addEventListener("keydown", (event) => {
  const box = event.target.closest?.("[data-picker]");
  if (!box || !event.target.matches("#picker-search, .picker-item")) return;
  const isField = event.target === picker.input(box);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    picker.move(box, event.target, step);
  } else if (event.key === "Escape" && !isField) {
    picker.input(box).focus();
  } else if (event.key === "Enter" && isField && picker.isCurrent(box)) {
    event.preventDefault();
    const [first] = $$(".picker-item", box);
    if (!first) $("[name=wish]", box).focus();
    else if (event.target.value.trim()) first.click();
    else first.focus();
  } // Enter before the list has come searches at once: nothing is chosen that was not seen.
});
document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("[data-picker][open]") && matchMedia("(pointer: fine)").matches) picker.input(event.target).focus();
}, true);
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.matches("[data-picker-search]")) picker.showProblem(event.detail.elt.closest("[data-picker]"), false);
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "picker-results") picker.carryWish(event.detail.target.closest("[data-picker]"));
});
for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, (event) => {
    if (event.detail.elt.matches("[data-picker-search]")) picker.showProblem(event.detail.elt.closest("[data-picker]"), true);
  });
}

// Choosing many products

document.addEventListener("change", (event) => {
  const bulk = event.target.closest(".bulk");
  if (!bulk) return;
  const boxes = $$("[name=ids]", bulk);
  if (event.target.matches("[data-check-all]")) boxes.forEach((box) => { box.checked = event.target.checked; });
  countChosen(bulk);
});
function countChosen(bulk) {
  const boxes = $$("[name=ids]", bulk);
  const count = boxes.filter((box) => box.checked).length;
  const words = $(".bulk-count", bulk);
  words.textContent = fill(words.dataset.countWords, { count });
  const all = $("[data-check-all]", bulk);
  all.checked = count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
}

// Clicks

document.addEventListener("click", (event) => {
  const target = event.target.closest?.("button");
  if (!target) return;
  if (target.matches("[data-check-none]")) {
    const bulk = target.closest(".bulk");
    $$("[name=ids]", bulk).forEach((box) => { box.checked = false; });
    countChosen(bulk);
  }
  if (target.matches("[data-copy]")) {
    const field = document.getElementById(target.dataset.copy);
    field.select();
    navigator.clipboard?.writeText(field.value).then(() => {
      $("span", target).textContent = target.dataset.wordsDone;
      announce(target.dataset.wordsDone);
    }, () => {});
  }
});

// htmx: progress, skeletons, and plain words when something goes wrong

document.addEventListener("htmx:configRequest", (event) => {
  if (!event.detail.elt.matches("[data-tidy]")) return;
  const { parameters } = event.detail;
  Object.entries(parameters).forEach(([name, value]) => { if (value === "") delete parameters[name]; });
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt } = event.detail;
  const polls = elt.matches("[data-waiting], [data-poll]");
  if (polls && document.hidden && elt.matches("[data-waiting]")) event.preventDefault();
  if (!elt.matches("[data-skeleton]")) return;
  const result = $("#result");
  keptResult = [...result.childNodes];
  result.replaceChildren($("#skeleton-template").content.cloneNode(true));
  if (matchMedia("(max-width: 959px)").matches) result.closest(".pane").scrollIntoView({ block: "start" });
});
let keptResult = null;
function restoreResult() {
  if (keptResult) $("#result")?.replaceChildren(...keptResult);
  keptResult = null;
}
document.addEventListener("htmx:xhr:progress", (event) => {
  const button = $("[aria-busy='true'][data-words-sending]", event.target);
  const { loaded, total } = event.detail;
  if (!button || !total) return;
  const { wordsSending, wordsWorking } = button.dataset;
  busy(button, loaded < total ? fill(wordsSending, { percent: percent(loaded / total) }) : wordsWorking);
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { detail } = event;
  const { xhr, requestConfig } = detail;
  const part = requestConfig.elt.getAttribute("hx-select");
  if (/^\s*<!doctype/i.test(detail.serverResponse) && !(part && detail.serverResponse.includes(`id="${part.slice(1)}"`))) {
    detail.shouldSwap = false; // another page than was asked for, such as the log-in page
    if (part) return location.reload();
    restoreResult();
    idle();
    return notify(document.body.dataset.wordsLogin, location.href);
  }
  if (xhr.status === 422 && requestConfig.elt.matches("[data-replace-invalid]")) {
    detail.target = requestConfig.elt;
    detail.swapOverride = "outerHTML";
    restoreResult();
  }
  const waits = "[data-waiting]";
  if (requestConfig.elt.matches(waits) && detail.serverResponse.includes("data-waiting")) detail.shouldSwap = false;
});
document.addEventListener("htmx:afterSwap", (event) => {
  keptResult = null;
  const said = $("[data-announce]", event.detail.target)?.dataset.announce;
  if (said) announce(said);
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (document.activeElement === document.body && event.detail.target.id === "result") $("#pane-title")?.focus({ preventScroll: true });
});
document.addEventListener("htmx:responseError", (event) => {
  const { xhr, elt } = event.detail;
  if (elt.matches("[data-picker-search]") && xhr.status !== 404) return; // the picker says so itself
  restoreResult();
  idle();
  if (elt.matches("[data-waiting], [data-poll]") && xhr.status >= 500) return; // asked again in a moment
  const words = document.body.dataset;
  const slow = fill(words.wordsSlow, { seconds: xhr.getResponseHeader("Retry-After") || 60 });
  notify({ 403: words.wordsStale, 404: words.wordsGone, 429: slow }[xhr.status] ?? words.wordsError);
});
document.addEventListener("htmx:sendError", (event) => {
  restoreResult();
  idle();
  if (!event.detail.elt.matches("[data-waiting], [data-poll], [data-picker-search]")) notify(document.body.dataset.wordsOffline);
});
document.addEventListener("htmx:pushedIntoHistory", (event) => {
  $$(".nav [aria-current]").forEach((link) => { if (new URL(link.href).pathname !== event.detail.path.split("?")[0]) link.removeAttribute("aria-current"); });
});
