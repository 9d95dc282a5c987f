// Keep an unsent product form in this browser: its text and photos survive a reload, a crash and a lost connection.
"use strict";

(() => {
  const LONGEST_DAYS = 7;
  const FIELDS = ["title", "description", "sku"];
  const form = document.querySelector("form[data-draft]");

  // A request or a transaction of IndexedDB as a promise.
  const finished = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.oncomplete = () => resolve();
    request.onerror = request.onabort = () => reject(request.error);
  });

  async function openStore(mode) {
    const opening = indexedDB.open("aisle", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("drafts", { keyPath: "key" });
    return (await finished(opening)).transaction("drafts", mode).objectStore("drafts");
  }

  const read = async (key) => finished((await openStore("readonly")).get(key));
  const write = async (draft) => finished((await openStore("readwrite")).put(draft));
  const remove = async (key) => finished((await openStore("readwrite")).delete(key));
  const removeAll = async () => finished((await openStore("readwrite")).clear());

  async function removeOld() {
    const store = await openStore("readwrite");
    const before = Date.now() - LONGEST_DAYS * 24 * 3600 * 1000;
    for (const draft of await finished(store.getAll())) {
      if (draft.savedAt < before) store.delete(draft.key);
    }
  }

  // A browser that stores nothing, such as a private window, works as it would without drafts.
  const quietly = (work) => work.catch(() => {});

  // The next person at a shared computer must not find what this one typed.
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-forget-drafts]")) quietly(removeAll());
  });

  if (!form) return;

  const key = form.dataset.draft;
  const notice = form.querySelector("[data-draft-notice]");
  const input = form.querySelector(".photo-input");
  // A draft of another tab is offered and not filled in: its product may still be sent from there.
  const tab = sessionStorage.getItem("aisle-tab") ?? `${Date.now()}-${Math.random()}`;
  sessionStorage.setItem("aisle-tab", tab);
  let sent = false;

  // What the form showed at first; a draft of an edit that has been saved since has another one.
  const base = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].defaultValue]));

  const isChanged = () => input.files.length > 0 || FIELDS.some((name) => form.elements[name].value !== base[name]);

  function save() {
    if (sent) return;
    const text = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value]));
    quietly(isChanged() ? write({ key, tab, base, text, photos: [...input.files], savedAt: Date.now() }) : remove(key));
  }

  function fill(draft) {
    for (const name of FIELDS) form.elements[name].value = draft.text[name];
    if (draft.photos.length) {
      const transfer = new DataTransfer();
      draft.photos.forEach((file) => transfer.items.add(file));
      input.files = transfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
    show("restored");
  }

  function show(state) {
    notice.hidden = false;
    for (const part of notice.querySelectorAll("[data-draft-state]")) part.hidden = part.dataset.draftState !== state;
    announce(notice.querySelector(`p[data-draft-state="${state}"]`).textContent);
  }

  async function restore() {
    await removeOld();
    const draft = await read(key);
    if (!draft || isChanged()) return;
    if (FIELDS.some((name) => draft.base[name] !== base[name])) return remove(key);
    if (draft.tab === tab) return fill(draft);
    show("offered");
    notice.querySelector("[data-draft-use]").addEventListener("click", () => fill(draft));
  }

  notice.querySelector("[data-draft-discard]").addEventListener("click", () => {
    form.reset();
    input.dispatchEvent(new Event("change", { bubbles: true }));
    notice.hidden = true;
    quietly(remove(key));
    form.elements.title.focus();
  });
  form.addEventListener("input", save);
  form.addEventListener("change", save);
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt !== form || event.detail.xhr.status !== 200) return;
    sent = true;
    quietly(remove(key));
  });
  // A page with errors has the values that were sent.
  if (!form.querySelector(".summary")) quietly(restore());
})();
