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

// The photo: choose, take, drop or paste; make it smaller and see it before it is sent

const READ_TYPES = ["image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"];
const HEIC_NAME = /\.(heic|heif)$/i; // where the system knows no type for it
const SIDE = 1600; // the long side of the copy that the server keeps
const SMALL_FILE = 600_000; // bytes; encoding such a file again gains little

const photo = {
  box: (element) => element.closest("[data-photo]"),
  input: (box) => $(".photo-input", box),

  // The name of a format that the server refuses; none where it reads it.
  refusedFormat(file) {
    if (READ_TYPES.includes(file.type) || HEIC_NAME.test(file.name)) return "";
    const ending = file.name.includes(".") ? file.name.split(".").pop() : file.type.split("/").pop();
    return (ending || "?").toUpperCase();
  },

  setFile(box, file) {
    const transfer = new DataTransfer();
    transfer.items.add(file);
    photo.input(box).files = transfer.files;
  },

  // A smaller JPEG of the photo in sRGB and turned upright, or the file itself where that gains nothing or fails.
  async shrink(file, limit) {
    const mayBeTransparent = ["image/png", "image/webp"].includes(file.type);
    if (file.size <= (mayBeTransparent ? limit : SMALL_FILE)) return file;
    try {
      const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
      const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
      const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.88));
      if (!blob || blob.size >= file.size) return file;
      return new File([blob], file.name.replace(/\.\w+$/, "") + ".jpg", { type: "image/jpeg" });
    } catch {
      return file; // a format that this browser can't read; the server may
    }
  },

  // Refuse, shrink and show the file that was put into the input.
  async put(box) {
    const [file] = photo.input(box).files;
    const refused = file ? photo.refusedFormat(file) : "";
    if (refused) {
      photo.input(box).value = "";
      photo.show(box);
      photo.fail(box, fill(box.dataset.wordsRefused, { format: refused }));
      return;
    }
    photo.show(box);
    announce(file ? fill(box.dataset.wordsReady, { name: file.name }) : box.dataset.wordsRemoved);
    if (!file) return;
    const limit = Number(box.dataset.limit);
    const smaller = await photo.shrink(file, limit);
    // Another file may have been chosen, or this one sent, while it was made smaller.
    if (photo.input(box).files[0] !== file) return;
    if (smaller !== file) {
      photo.setFile(box, smaller);
      photo.show(box);
    }
    if (smaller.size > limit) photo.fail(box, fill(box.dataset.wordsLarge, { size: Math.ceil(smaller.size / 1e6) }));
  },

  fail(box, words) {
    const error = $("#id_photo_error", box);
    error.hidden = !words;
    box.classList.toggle("field-wrong", Boolean(words));
    $("[data-photo-error]", error).textContent = words;
    if (words) announce(words);
  },

  show(box) {
    const [file] = photo.input(box).files;
    const preview = $(".photo-preview", box);
    const name = $(".photo-name", box);
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    const { original } = box.dataset; // what the product has already
    preview.hidden = !file && !original;
    name.hidden = true;
    if (file) {
      preview.onerror = () => { preview.hidden = true; name.hidden = false; name.textContent = file.name; };
      preview.src = URL.createObjectURL(file);
    } else {
      preview.onerror = null;
      if (original) preview.src = original; else preview.removeAttribute("src");
    }
    box.classList.toggle("photo-full", Boolean(file || original));
    $("[data-photo-clear]", box).hidden = !file;
    photo.fail(box, "");
  },

  take(box, files) {
    const [file] = files;
    if (!file) return false;
    photo.setFile(box, file);
    photo.put(box);
    return true;
  },

  clear(box) {
    photo.input(box).value = "";
    $("[name=kept_photo]", box).value = "";
    photo.put(box);
    photo.input(box).focus();
  },

  openCamera(box) {
    const camera = Object.assign(document.createElement("input"), { type: "file", accept: "image/*" });
    camera.setAttribute("capture", "environment");
    camera.addEventListener("change", () => photo.take(box, camera.files));
    camera.click();
  },
};

document.addEventListener("change", (event) => {
  if (!event.target.matches(".photo-input")) return;
  const box = photo.box(event.target);
  photo.put(box);
  const remove = $("[name=remove_photo]");
  if (remove) remove.checked = false;
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const box = $("[data-photo]");
    if (!box || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    box.classList.toggle("photo-over", kind === "dragover");
    if (kind === "drop") photo.take(box, event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => {
  const box = $("[data-photo]");
  if (box && photo.take(box, event.clipboardData?.files ?? [])) event.preventDefault();
});

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
  if (target.matches("[data-photo-clear]")) photo.clear(photo.box(target));
  if (target.matches("[data-photo-camera]")) photo.openCamera(photo.box(target));
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
